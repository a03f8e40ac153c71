//! Whom the process becomes when root started it: `user`, or PUID and PGID, else `mosquitto` or `nobody`.
//!
//! 1. Groups go first, then the group, then the user: afterwards there would be no right to.

use std::ffi::{CString, OsString};

use nix::errno::Errno;
use nix::unistd::{self, Gid, Uid, User};

use super::DaemonError;
use crate::config::log_target::INFORMATION;

/// The user of Mosquitto's packages.
const USER_DEFAULT: &str = "mosquitto";

/// Who takes its place where it does not exist.
const USER_ELSE: &str = "nobody";

/// What of the environment decides whom the process becomes.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    /// `PUID`: the user id to become, whatever is configured.
    pub puid: Option<OsString>,
    /// `PGID`: its group id.
    pub pgid: Option<OsString>,
    /// `SNAP_NAME`: the snap package that this runs in, whose confinement takes the place of a user.
    pub snap_name: Option<OsString>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Environment {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Environment {
            puid: variable("PUID"),
            pgid: variable("PGID"),
            snap_name: variable("SNAP_NAME"),
        }
    }
}

/// Whom the process runs as, to be told once there is a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsAs {
    /// Whether the user that is the default is not there.
    instead_of_default: bool,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// The superuser or its group.
    Root,
    /// The superuser in the confinement of a snap.
    Confined,
    Named(String),
    Numbered(u32),
}

impl RunsAs {
    /// Logs it.
    pub fn tell(&self) {
        if self.instead_of_default {
            ::log::warn!(
                "Warning: There is no user '{USER_DEFAULT}', so the broker runs as '{USER_ELSE}'. \
                 Name another one with the option user."
            );
        }
        match &self.who {
            Who::Root => {
                ::log::warn!("Warning: Mosquitto should not be run as root/administrator.");
            }
            Who::Confined => {}
            Who::Named(name) => {
                ::log::info!(target: INFORMATION, "Info: running mosquitto as user: {name}.");
            }
            Who::Numbered(id) => {
                ::log::info!(target: INFORMATION, "Info: running mosquitto as user id: {id}.");
            }
        }
    }
}

/// Gives up root for the configured `user`, for the whole process and for ever. Who is not root stays who they are.
///
/// # Errors
/// If there is no such user, or the system does not let the process become it. The process must end then.
pub fn drop_privileges(
    user: Option<&str>,
    environment: &Environment,
) -> Result<RunsAs, DaemonError> {
    if !unistd::geteuid().is_root() {
        return Ok(RunsAs {
            instead_of_default: false,
            who: who_am_i(),
        });
    }
    if environment
        .snap_name
        .as_ref()
        .is_some_and(|name| name == "mosquitto")
    {
        return Ok(RunsAs {
            instead_of_default: false,
            who: Who::Confined,
        });
    }
    let chosen = choose(
        user,
        environment,
        &|name| find(User::from_name(name)),
        &|id| find(User::from_uid(id)),
    )?;
    if let Some(target) = &chosen.target {
        target.become_it()?;
    }
    Ok(RunsAs {
        instead_of_default: chosen.instead_of_default,
        who: who_am_i(),
    })
}

/// An account that cannot be looked up is as good as none.
fn find(user: nix::Result<Option<User>>) -> Option<Account> {
    let user = user.ok().flatten()?;
    Some(Account {
        name: user.name,
        uid: user.uid,
        gid: user.gid,
    })
}

fn who_am_i() -> Who {
    let id = unistd::geteuid();
    if id.is_root() || unistd::getegid().as_raw() == 0 {
        return Who::Root;
    }
    match find(User::from_uid(id)) {
        Some(account) => Who::Named(account.name),
        None => Who::Numbered(id.as_raw()),
    }
}

/// A line of the accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Whom to become.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// Whose further groups come along; nobody's, where the user has no name.
    name: Option<String>,
    uid: Uid,
    gid: Gid,
}

#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    /// `None` is to stay root.
    target: Option<Target>,
    instead_of_default: bool,
}

fn choose(
    user: Option<&str>,
    environment: &Environment,
    by_name: &dyn Fn(&str) -> Option<Account>,
    by_id: &dyn Fn(Uid) -> Option<Account>,
) -> Result<Chosen, DaemonError> {
    let pgid = number("PGID", environment.pgid.as_ref())?.map(Gid::from_raw);
    if let Some(id) = number("PUID", environment.puid.as_ref())? {
        let account = by_id(Uid::from_raw(id));
        let gid = pgid.or(account.as_ref().map(|account| account.gid));
        return Ok(Chosen {
            target: Some(Target {
                name: account.map(|account| account.name),
                uid: Uid::from_raw(id),
                gid: gid.ok_or(DaemonError::NoGroup(id))?,
            }),
            instead_of_default: false,
        });
    }
    let name = user.unwrap_or(USER_DEFAULT);
    if name == "root" && pgid.is_none() {
        return Ok(Chosen {
            target: None,
            instead_of_default: false,
        });
    }
    let (account, instead_of_default) = match by_name(name) {
        Some(account) => (account, false),
        None if name == USER_DEFAULT => (by_name(USER_ELSE).ok_or(DaemonError::NoUser)?, true),
        None => return Err(DaemonError::UnknownUser(name.to_owned())),
    };
    Ok(Chosen {
        target: Some(Target {
            name: Some(account.name),
            uid: account.uid,
            gid: pgid.unwrap_or(account.gid),
        }),
        instead_of_default,
    })
}

/// The id that an environment variable is.
fn number(name: &'static str, value: Option<&OsString>) -> Result<Option<u32>, DaemonError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let id = value
        .to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        // The highest one means "no change" to the system.
        .filter(|id| *id != u32::MAX);
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(DaemonError::Variable {
            name,
            value: value.clone(),
            expected: "the number of a user or group",
        }),
    }
}

impl Target {
    fn become_it(&self) -> Result<(), DaemonError> {
        let step = |step: &'static str| {
            move |error: Errno| DaemonError::Privileges {
                step,
                error: error.into(),
            }
        };
        let name = self
            .name
            .as_deref()
            .and_then(|name| CString::new(name).ok());
        match name {
            Some(name) => unistd::initgroups(&name, self.gid),
            None => unistd::setgroups(&[self.gid]),
        }
        .map_err(step("setting the groups"))?;
        unistd::setgid(self.gid).map_err(step("setting the group"))?;
        unistd::setuid(self.uid).map_err(step("setting the user"))?;
        let users = [unistd::getuid(), unistd::geteuid()];
        let groups = [unistd::getgid(), unistd::getegid()];
        let is_changed = users == [self.uid; 2] && groups == [self.gid; 2];
        let is_kept = !self.uid.is_root() && unistd::setuid(Uid::from_raw(0)).is_ok();
        if !is_changed || is_kept {
            return Err(DaemonError::StillRoot);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The account of a name is its length, and its group ten times that.
    fn account(name: &str) -> Account {
        let id = name.len() as u32;
        Account {
            name: name.to_owned(),
            uid: Uid::from_raw(id),
            gid: Gid::from_raw(10 * id),
        }
    }

    /// Name, user and group of who is to be become, and whether that is instead of the default.
    type Found = (Option<(Option<String>, u32, u32)>, bool);

    fn chosen(
        user: Option<&str>,
        [puid, pgid]: [&str; 2],
        accounts: &[&str],
    ) -> Result<Found, String> {
        let given = |text: &str| (!text.is_empty()).then(|| text.into());
        let environment = Environment {
            puid: given(puid),
            pgid: given(pgid),
            snap_name: None,
        };
        let find = |is_it: &dyn Fn(&Account) -> bool| {
            accounts.iter().map(|name| account(name)).find(is_it)
        };
        let chosen = choose(
            user,
            &environment,
            &|name| find(&|account| account.name == name),
            &|id| find(&|account| account.uid == id),
        );
        let chosen = chosen.map_err(|error| error.to_string())?;
        let target = chosen
            .target
            .map(|target| (target.name, target.uid.as_raw(), target.gid.as_raw()));
        Ok((target, chosen.instead_of_default))
    }

    #[test]
    fn whom_to_become() {
        const ALL: &[&str] = &["mosquitto", "nobody", "bob"];
        let named = |name: &str, uid, gid| Some((Some(name.to_owned()), uid, gid));
        for (user, ids, accounts, expected) in [
            (None, ["", ""], ALL, (named("mosquitto", 9, 90), false)),
            (None, ["", ""], &ALL[1..], (named("nobody", 6, 60), true)),
            (
                Some("mosquitto"),
                ["", ""],
                ALL,
                (named("mosquitto", 9, 90), false),
            ),
            (
                Some("mosquitto"),
                ["", ""],
                &ALL[1..],
                (named("nobody", 6, 60), true),
            ),
            (Some("bob"), ["", ""], ALL, (named("bob", 3, 30), false)),
            (Some("root"), ["", ""], ALL, (None, false)),
            (
                Some("bob"),
                ["1883", "1884"],
                ALL,
                (Some((None, 1883, 1884)), false),
            ),
            (
                Some("root"),
                ["1883", "1884"],
                ALL,
                (Some((None, 1883, 1884)), false),
            ),
            (None, ["6", ""], ALL, (named("nobody", 6, 60), false)),
            (None, ["6", "7"], ALL, (named("nobody", 6, 7), false)),
            (None, ["", "7"], ALL, (named("mosquitto", 9, 7), false)),
        ] {
            assert_eq!(
                chosen(user, ids, accounts),
                Ok(expected),
                "{user:?} {ids:?}"
            );
        }
    }

    #[test]
    fn whom_nobody_can_become() {
        for (user, ids, error) in [
            (
                Some("bob"),
                ["", ""],
                "'bob' because this user does not exist",
            ),
            (None, ["", ""], "neither a user 'mosquitto' nor 'nobody'"),
            (None, ["1883", ""], "user id 1883"),
            (None, ["me", "1"], "PUID is 'me'"),
            (None, ["-1", "1"], "PUID is '-1'"),
            (None, ["4294967295", "1"], "PUID is '4294967295'"),
            (None, ["1", "0x1"], "PGID is '0x1'"),
        ] {
            let found = chosen(user, ids, &[]).expect_err("there is nobody");
            assert!(found.contains(error), "{found}");
        }
    }
}

//! Plugin lines -> what they ask for. Midge loads no plugins, but does itself what some of Mosquitto's own ones do.
//!
//! It knows the plugins that come with Mosquitto by the names of their files, and their settings. It does not know
//! which listener a line belongs to.
//! 1. A plugin that is not known here, or whose work is not done, is refused: it may be what keeps people out.

use std::path::{Path, PathBuf};

use super::build::Owner;
use super::error::{ConfigError, Place, Problem, Refusal, Warning};
use super::persistence::Sync;

/// What a plugin is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// The same as options, each of which a setting of its own gives; the first one must be given.
    Files(&'static [FileSetting]),
    /// Nothing that keeps anybody out; the text says what is missing without it.
    Extra(&'static str),
    /// The same as `persistence true`, this surely.
    Store(Sync),
    /// Anything at all.
    Unknown,
}

/// A file that a plugin is given.
#[derive(Debug, PartialEq, Eq)]
struct FileSetting {
    /// The setting, without `plugin_opt_`.
    key: &'static str,
    /// The option that it stands for.
    option: &'static str,
    /// The setting as messages name it.
    needs: &'static str,
}

const PASSWORDS: &[FileSetting] = &[FileSetting {
    key: "password_file",
    option: "password_file",
    needs: "'plugin_opt_password_file'",
}];

const RULES: &[FileSetting] = &[FileSetting {
    key: "acl_file",
    option: "acl_file",
    needs: "'plugin_opt_acl_file'",
}];

const DYNAMIC_SECURITY: &[FileSetting] = &[
    FileSetting {
        key: "config_file",
        option: "dynamic_security_file",
        needs: "'plugin_opt_config_file'",
    },
    FileSetting {
        key: "password_init_file",
        option: "dynamic_security_password_file",
        needs: "'plugin_opt_password_init_file'",
    },
];

impl Work {
    fn of(path: &str) -> Work {
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        match name {
            Some("mosquitto_password_file.so") => Work::Files(PASSWORDS),
            Some("mosquitto_acl_file.so") => Work::Files(RULES),
            Some("mosquitto_dynamic_security.so") => Work::Files(DYNAMIC_SECURITY),
            Some("mosquitto_persist_sqlite.so") => Work::Store(Sync::default()),
            Some("mosquitto_sparkplug_aware.so") => {
                Work::Extra("messages of Sparkplug are passed on as all others are")
            }
            _ => Work::Unknown,
        }
    }
}

/// A plugin line and the settings below it.
#[derive(Debug)]
pub struct Plugin {
    /// The option that names it, as written.
    option: String,
    path: String,
    place: Place,
    work: Work,
    /// The files it was given, with the options that they stand for.
    files: Vec<(&'static str, (PathBuf, Place))>,
    /// The name that `plugin_load` gives it.
    name: Option<String>,
    /// Whose it is.
    users: Vec<Owner>,
    /// Whether it is for all listeners.
    is_global: bool,
}

impl Plugin {
    /// The plugin that a line names; [`Owner::Plugin`] is the line of a `plugin_load`, whose users come later.
    pub fn new(option: &str, value: &str, owner: Owner, place: &Place) -> Option<Plugin> {
        let (name, path) = match option {
            "plugin_load" => {
                let (name, path) = value.split_once([' ', '\t'])?;
                (Some(name.to_owned()), path.trim())
            }
            _ => (None, value),
        };
        let users = match option {
            "plugin_load" | "global_plugin" => Vec::new(),
            _ => vec![owner],
        };
        Some(Plugin {
            option: option.to_owned(),
            path: path.to_owned(),
            place: place.clone(),
            work: Work::of(path),
            files: Vec::new(),
            name,
            users,
            is_global: option == "global_plugin",
        })
    }

    /// Whether it asks for persistence.
    pub fn keeps_messages(&self) -> bool {
        matches!(self.work, Work::Store(_))
    }

    /// How surely it is to keep what it is given.
    pub fn sync(&self) -> Sync {
        match self.work {
            Work::Store(sync) => sync,
            _ => Sync::default(),
        }
    }

    /// The name that `plugin_load` gave it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Lets `owner` use it too.
    pub fn used_by(&mut self, owner: Owner) {
        self.users.push(owner);
    }

    /// Takes a setting of it: `key` without `plugin_opt_`, and the whole `option` for messages.
    pub fn set(
        &mut self,
        (option, key): (&str, &str),
        value: String,
        place: &Place,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), Problem> {
        match self.work {
            Work::Files(settings) => {
                let Some(setting) = settings.iter().find(|setting| setting.key == key) else {
                    let text = format!("Warning: The '{option}' option has no effect.");
                    warnings.push(Warning::at(place, text));
                    return Ok(());
                };
                if let Some((_, first)) = self.file(setting.option) {
                    return Err(Problem::Duplicate {
                        option: option.to_owned(),
                        first: first.clone(),
                    });
                }
                self.files
                    .push((setting.option, (value.into(), place.clone())));
                Ok(())
            }
            Work::Store(_) if key == "sync" => {
                self.work = Work::Store(Sync::from_word(&value).unwrap_or_default());
                Ok(())
            }
            // Its file and its pages are not ours.
            Work::Store(_) => Ok(()),
            // The plugin's own warning or refusal is for all of its lines.
            Work::Extra(_) | Work::Unknown => Ok(()),
        }
    }

    /// Checks it once all of its lines are read.
    pub fn check(
        &self,
        warnings: &mut Vec<Warning>,
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), ConfigError> {
        let file = Path::new(&self.path).file_name();
        let file = file.map_or(self.path.clone().into(), |name| name.to_string_lossy());
        match self.work {
            Work::Unknown => refusals.push(Refusal {
                option: self.option.clone(),
                place: self.place.clone(),
                reason: format!(
                    "Midge loads no plugins, and does not know what '{file}' would keep out. Use 'password_file' \
                     and 'acl_file' where they are enough, or 'dynamic_security_file'."
                ),
            }),
            Work::Store(_) => {
                let text = format!(
                    "The plugin '{file}' is not loaded: it stands for 'persistence true', and its database is not read."
                );
                warnings.push(Warning::notice_at(&self.place, text));
            }
            Work::Extra(missing) => {
                let text = format!("Warning: The plugin '{file}' is not loaded: {missing}.");
                warnings.push(Warning::at(&self.place, text));
            }
            Work::Files([must, ..]) if self.file(must.option).is_none() => {
                return Err(ConfigError::At {
                    place: self.place.clone(),
                    problem: Problem::Incomplete {
                        option: self.option.clone(),
                        needs: must.needs,
                    },
                });
            }
            Work::Files(_) if self.users.is_empty() && !self.is_global => {
                let text = format!(
                    "Warning: The plugin '{file}' has no effect: no 'plugin_use' names it."
                );
                warnings.push(Warning::at(&self.place, text));
            }
            Work::Files(_) => {}
        }
        Ok(())
    }

    /// The file that it means for `option`, if it is meant for `owner`.
    pub fn file_for(&self, option: &'static str, owner: Owner) -> Option<&(PathBuf, Place)> {
        let is_for = self.is_global || self.users.contains(&owner);
        self.file(option).filter(|_| is_for)
    }

    /// The file that it was given for `option`.
    fn file(&self, option: &str) -> Option<&(PathBuf, Place)> {
        let mut files = self.files.iter();
        files.find(|(of, _)| *of == option).map(|(_, file)| file)
    }
}

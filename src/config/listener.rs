//! A listener as far as its lines have said -> [`Listener`]: what belongs together, what is missing, what is of no use.
//!
//! It knows the options of listeners. It does not know files, or which listener a line belongs to.
//! 1. A line that asks for protection is in the [`Listener`], or there is an error: TLS that lacks its key does not
//!    become a listener without TLS, as it does in Mosquitto.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::build::{limit, within};
use super::parse::Value;
use super::{
    AcceptVersions, CertificateName, ConfigError, DynamicSecurity, Listener, Place, Problem,
    ProxyProtocol, SocketDomain, Tls, TlsVersion, Warning,
};

/// Security options, as far as they were given.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// `allow_anonymous`
    pub allow_anonymous: Option<bool>,
    /// `allow_zero_length_clientid`
    pub allow_zero_length_client_id: Option<bool>,
    /// `auto_id_prefix`
    pub auto_id_prefix: Option<String>,
    /// `password_file`
    pub password_file: Option<PathBuf>,
    /// `acl_file`
    pub acl_file: Option<PathBuf>,
    /// `dynamic_security_file`
    pub dynamic_security_file: Option<PathBuf>,
    /// `dynamic_security_password_file`
    pub dynamic_security_password_file: Option<PathBuf>,
}

impl Security {
    /// Takes a security option that is in force.
    pub fn set(&mut self, name: &'static str, value: Value) {
        match (name, value) {
            ("allow_anonymous", Value::Flag(flag)) => self.allow_anonymous = Some(flag),
            ("allow_zero_length_clientid", Value::Flag(flag)) => {
                self.allow_zero_length_client_id = Some(flag);
            }
            ("auto_id_prefix", Value::Text(text)) => self.auto_id_prefix = Some(text),
            ("password_file", Value::Text(path)) => self.password_file = Some(path.into()),
            ("acl_file", Value::Text(path)) => self.acl_file = Some(path.into()),
            ("dynamic_security_file", Value::Text(path)) => {
                self.dynamic_security_file = Some(path.into());
            }
            ("dynamic_security_password_file", Value::Text(path)) => {
                self.dynamic_security_password_file = Some(path.into());
            }
            (name, value) => {
                unreachable!("security option in force without an arm: {name} {value:?}")
            }
        }
    }

    /// The same with every default filled in.
    pub fn resolved(&self, local_only: bool) -> Resolved {
        Resolved {
            allow_anonymous: self.allow_anonymous.unwrap_or(local_only),
            allow_zero_length_client_id: self.allow_zero_length_client_id.unwrap_or(true),
            auto_id_prefix: self
                .auto_id_prefix
                .clone()
                .unwrap_or_else(|| "auto-".to_owned()),
            password_file: self.password_file.clone(),
            acl_file: self.acl_file.clone(),
            dynamic_security_file: self.dynamic_security_file.clone(),
            dynamic_security_password_file: self.dynamic_security_password_file.clone(),
        }
    }
}

/// Security options with every default filled in.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// `allow_anonymous`
    pub allow_anonymous: bool,
    /// `allow_zero_length_clientid`
    pub allow_zero_length_client_id: bool,
    /// `auto_id_prefix`
    pub auto_id_prefix: String,
    /// `password_file`
    pub password_file: Option<PathBuf>,
    /// `acl_file`
    pub acl_file: Option<PathBuf>,
    /// `dynamic_security_file`
    pub dynamic_security_file: Option<PathBuf>,
    /// `dynamic_security_password_file`
    pub dynamic_security_password_file: Option<PathBuf>,
}

/// A listener, as far as it was given.
#[derive(Debug)]
pub struct Draft {
    port: u16,
    unix_path: Option<PathBuf>,
    host: Option<String>,
    socket_domain: Option<SocketDomain>,
    max_connections: Option<NonZeroUsize>,
    max_qos: u8,
    max_topic_alias: u16,
    max_topic_alias_broker: u16,
    allow_anonymous: Option<bool>,
    auto_id_prefix: Option<String>,
    bind_interface: Option<String>,
    mount_point: Option<String>,
    accept_protocol_versions: AcceptVersions,
    use_username_as_client_id: bool,
    proxy_version: Option<i64>,
    proxy_requires_tls: bool,
    tls: TlsDraft,
    /// What of `protocol` is not built, so that the listener is not opened.
    pub unopened: Option<&'static str>,
    /// Its own security options, with `per_listener_settings true`.
    pub security: Security,
}

#[derive(Debug, Default)]
struct TlsDraft {
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    cafile: Option<PathBuf>,
    capath: Option<PathBuf>,
    crlfile: Option<PathBuf>,
    require_certificate: bool,
    identity_is_user_name: bool,
    subject_is_user_name: bool,
    ciphers: Option<String>,
    ciphers_tls13: Option<String>,
    version_min: Option<TlsVersion>,
    ignores_dates: bool,
}

/// What a listener that is done has to say: where its options stand, and what the operator should know.
pub struct Telling<'a> {
    /// Where an option of this listener was given.
    pub place_of: &'a dyn Fn(&'static str) -> Place,
    /// What the operator should know.
    pub warnings: &'a mut Vec<Warning>,
}

impl Telling<'_> {
    fn warn(&mut self, option: &'static str, text: String) {
        let place = (self.place_of)(option);
        self.warnings.push(Warning::at(&place, text));
    }

    fn incomplete(&self, option: &'static str, needs: &'static str) -> ConfigError {
        ConfigError::At {
            place: (self.place_of)(option),
            problem: Problem::Incomplete {
                option: option.to_owned(),
                needs,
            },
        }
    }
}

impl Draft {
    /// The listener on `port` and `address`, which is a path where the port is 0.
    pub fn new(port: u16, address: Option<String>) -> Draft {
        let (unix_path, host) = match port {
            0 => (address.map(PathBuf::from), None),
            _ => (None, address),
        };
        Draft {
            port,
            unix_path,
            host,
            socket_domain: None,
            max_connections: None,
            max_qos: 2,
            max_topic_alias: 10,
            max_topic_alias_broker: 10,
            allow_anonymous: None,
            auto_id_prefix: None,
            bind_interface: None,
            mount_point: None,
            accept_protocol_versions: AcceptVersions::ALL,
            use_username_as_client_id: false,
            proxy_version: None,
            proxy_requires_tls: false,
            tls: TlsDraft::default(),
            unopened: None,
            security: Security::default(),
        }
    }

    /// Takes a listener option that is in force.
    pub fn set(&mut self, name: &'static str, value: Value) {
        match value {
            Value::Flag(flag) => self.set_flag(name, flag),
            Value::Integer(number) => self.set_number(name, number),
            Value::Text(text) => self.set_text(name, text),
            Value::Versions(versions) => self.accept_protocol_versions = versions,
            other => unreachable!("no listener option is of this kind: {name} {other:?}"),
        }
    }

    fn set_flag(&mut self, name: &'static str, flag: bool) {
        match name {
            "listener_allow_anonymous" => self.allow_anonymous = Some(flag),
            "use_username_as_clientid" => self.use_username_as_client_id = flag,
            "proxy_protocol_v2_require_tls" => self.proxy_requires_tls = flag,
            "require_certificate" => self.tls.require_certificate = flag,
            "use_identity_as_username" => self.tls.identity_is_user_name = flag,
            "use_subject_as_username" => self.tls.subject_is_user_name = flag,
            "disable_client_cert_date_checks" => self.tls.ignores_dates = flag,
            name => unreachable!("flag in force without an arm: {name}"),
        }
    }

    fn set_number(&mut self, name: &'static str, number: i64) {
        match name {
            "port" => self.port = within(number),
            "max_connections" => self.max_connections = limit(number),
            "max_qos" => self.max_qos = within(number),
            "max_topic_alias" => self.max_topic_alias = within(number),
            "max_topic_alias_broker" => self.max_topic_alias_broker = within(number),
            "enable_proxy_protocol" => self.proxy_version = Some(number),
            name => unreachable!("number in force without an arm: {name}"),
        }
    }

    fn set_text(&mut self, name: &'static str, text: String) {
        let tls = &mut self.tls;
        match name {
            "bind_address" => self.host = Some(text),
            "bind_interface" => self.bind_interface = Some(text),
            "socket_domain" => {
                self.socket_domain = Some(match text.as_str() {
                    "ipv4" => SocketDomain::Ipv4,
                    _ => SocketDomain::Ipv6,
                });
            }
            "protocol" => {
                self.unopened = match text.as_str() {
                    "websockets" => Some("websockets"),
                    "http_api" => Some("http_api"),
                    _ => None,
                };
            }
            "mount_point" => self.mount_point = Some(text),
            "listener_auto_id_prefix" => self.auto_id_prefix = Some(text),
            "certfile" => tls.certfile = Some(text.into()),
            "keyfile" => tls.keyfile = Some(text.into()),
            "cafile" => tls.cafile = Some(text.into()),
            "capath" => tls.capath = Some(text.into()),
            "crlfile" => tls.crlfile = Some(text.into()),
            "ciphers" => tls.ciphers = Some(text),
            "ciphers_tls1.3" => tls.ciphers_tls13 = Some(text),
            "tls_version" => {
                tls.version_min = Some(match text.as_str() {
                    "tlsv1.3" => TlsVersion::V13,
                    _ => TlsVersion::V12,
                });
            }
            name => unreachable!("text in force without an arm: {name}"),
        }
    }

    /// Where it listens, as the operator wrote it.
    pub fn name(&self) -> String {
        listener_name(self.port, self.unix_path.as_ref(), self.host.as_deref())
    }

    /// The listener that its lines came to, under `security`.
    pub fn finish(
        self,
        security: Resolved,
        telling: &mut Telling<'_>,
    ) -> Result<Listener, ConfigError> {
        let proxy_protocol = self.proxy_protocol(telling)?;
        let identity_is_from_proxy =
            proxy_protocol.is_some_and(ProxyProtocol::identity_is_user_name);
        Ok(Listener {
            port: self.port,
            unix_path: self.unix_path,
            host: self.host,
            socket_domain: self.socket_domain,
            max_connections: self.max_connections,
            max_qos: self.max_qos,
            max_topic_alias: self.max_topic_alias,
            max_topic_alias_broker: self.max_topic_alias_broker,
            allow_anonymous: self.allow_anonymous.unwrap_or(security.allow_anonymous),
            allow_zero_length_client_id: security.allow_zero_length_client_id,
            auto_id_prefix: self.auto_id_prefix.unwrap_or(security.auto_id_prefix),
            password_file: security.password_file,
            acl_file: security.acl_file,
            dynamic_security: security.dynamic_security_file.map(|file| DynamicSecurity {
                file,
                password_file: security.dynamic_security_password_file,
            }),
            bind_interface: self.bind_interface,
            mount_point: self.mount_point,
            accept_protocol_versions: self.accept_protocol_versions,
            use_username_as_client_id: self.use_username_as_client_id,
            proxy_protocol,
            tls: self.tls.finish(identity_is_from_proxy, telling)?,
        })
    }

    fn proxy_protocol(
        &self,
        telling: &mut Telling<'_>,
    ) -> Result<Option<ProxyProtocol>, ConfigError> {
        match self.proxy_version {
            Some(2) => Ok(Some(ProxyProtocol::V2 {
                require_tls: self.proxy_requires_tls,
                identity_is_user_name: self.tls.identity_is_user_name
                    && self.tls.certfile.is_none(),
            })),
            _ if self.proxy_requires_tls => {
                Err(telling
                    .incomplete("proxy_protocol_v2_require_tls", "'enable_proxy_protocol 2'"))
            }
            version => Ok(version.map(|_| ProxyProtocol::V1)),
        }
    }
}

impl TlsDraft {
    fn finish(
        self,
        identity_is_from_proxy: bool,
        telling: &mut Telling<'_>,
    ) -> Result<Option<Tls>, ConfigError> {
        match (&self.certfile, &self.keyfile) {
            (Some(_), Some(_))
                if self.require_certificate && self.cafile.is_none() && self.capath.is_none() =>
            {
                Err(telling.incomplete("require_certificate", "'cafile' or 'capath'"))
            }
            (Some(certfile), Some(keyfile)) => {
                let (certfile, keyfile) = (certfile.clone(), keyfile.clone());
                self.tell_what_is_of_no_use(telling);
                Ok(Some(Tls {
                    certfile,
                    keyfile,
                    user_name: self.user_name(),
                    cafile: self.cafile,
                    capath: self.capath,
                    crlfile: self.crlfile,
                    require_certificate: self.require_certificate,
                    ciphers: self.ciphers,
                    ciphers_tls13: self.ciphers_tls13,
                    version_min: self.version_min.unwrap_or(TlsVersion::V12),
                    ignores_dates: self.ignores_dates,
                }))
            }
            (Some(_), None) => Err(telling.incomplete("certfile", "'keyfile'")),
            (None, Some(_)) => Err(telling.incomplete("keyfile", "'certfile'")),
            (None, None) => self.plain(identity_is_from_proxy, telling).map(|()| None),
        }
    }

    /// Without TLS, what asks for it is an error, and what only shapes it a warning.
    fn plain(
        &self,
        identity_is_from_proxy: bool,
        telling: &mut Telling<'_>,
    ) -> Result<(), ConfigError> {
        let identity = self.identity_is_user_name && !identity_is_from_proxy;
        for (option, given) in [
            ("cafile", self.cafile.is_some()),
            ("capath", self.capath.is_some()),
            ("crlfile", self.crlfile.is_some()),
            ("require_certificate", self.require_certificate),
            ("use_identity_as_username", identity),
            ("use_subject_as_username", self.subject_is_user_name),
        ] {
            if given {
                return Err(telling.incomplete(option, "'certfile' and 'keyfile'"));
            }
        }
        for (option, given) in [
            ("ciphers", self.ciphers.is_some()),
            ("ciphers_tls1.3", self.ciphers_tls13.is_some()),
            ("tls_version", self.version_min.is_some()),
            ("disable_client_cert_date_checks", self.ignores_dates),
        ] {
            if given {
                telling.warn(
                    option,
                    format!(
                        "Warning: The '{option}' option has no effect without 'certfile' and 'keyfile'."
                    ),
                );
            }
        }
        Ok(())
    }

    fn user_name(&self) -> Option<CertificateName> {
        if self.identity_is_user_name {
            Some(CertificateName::CommonName)
        } else {
            self.subject_is_user_name
                .then_some(CertificateName::Subject)
        }
    }

    fn tell_what_is_of_no_use(&self, telling: &mut Telling<'_>) {
        if self.identity_is_user_name && self.subject_is_user_name {
            telling.warn(
                "use_subject_as_username",
                "Warning: The 'use_subject_as_username' option has no effect beside 'use_identity_as_username'."
                    .to_owned(),
            );
        }
        if self.require_certificate {
            return;
        }
        let names = [
            ("use_identity_as_username", self.identity_is_user_name),
            ("use_subject_as_username", self.subject_is_user_name),
        ];
        for (option, _) in names.into_iter().filter(|(_, given)| *given) {
            telling.warn(
                option,
                format!(
                    "Warning: The '{option}' option is of use with 'require_certificate true' only: no client is \
                     asked for a certificate, and one that shows none is refused."
                ),
            );
        }
        if self.crlfile.is_some() {
            telling.warn(
                "crlfile",
                "Warning: The 'crlfile' option has no effect without 'require_certificate true': no client is asked \
                 for a certificate."
                    .to_owned(),
            );
        }
    }
}

/// Where a listener listens, as in its `listener` line.
pub fn listener_name(port: u16, unix_path: Option<&PathBuf>, host: Option<&str>) -> String {
    match (unix_path, host) {
        (Some(path), _) => format!("{port} {}", path.display()),
        (None, Some(host)) => format!("{port} {host}"),
        (None, None) => port.to_string(),
    }
}

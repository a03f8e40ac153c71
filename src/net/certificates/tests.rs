//! TLS contexts from certificates that the `openssl` command makes here and now, and handshakes in memory.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::server::{Acceptor, ServerConnection};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, ProtocolVersion, SignatureScheme,
};
use tempfile::TempDir;

use super::*;

pub(super) const EC: &str = "EC -pkeyopt ec_paramgen_curve:P-256";

/// A directory full of certificates.
pub(super) struct Lab {
    dir: TempDir,
}

impl Lab {
    /// With an authority `ca` and a certificate `server`.
    pub(in crate::net::certificates) fn new() -> Lab {
        let lab = Lab {
            dir: TempDir::new().expect("a directory"),
        };
        lab.authority("ca");
        lab.issue("server", "ca", Some("subjectAltName=DNS:localhost"), "");
        lab
    }

    pub(in crate::net::certificates) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(in crate::net::certificates) fn write(
        &self,
        name: &str,
        text: impl AsRef<[u8]>,
    ) -> PathBuf {
        fs::write(self.path(name), text).expect("a file");
        self.path(name)
    }

    pub(in crate::net::certificates) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect(name)
    }

    /// Runs `openssl` with these words.
    pub(in crate::net::certificates) fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace().map(|word| word.replace('~', " ")))
            .current_dir(self.dir.path())
            .output()
            .expect("openssl is installed");
        assert!(
            output.status.success(),
            "openssl {words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(in crate::net::certificates) fn key(&self, name: &str, algorithm: &str) {
        self.openssl(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
    }

    pub(in crate::net::certificates) fn authority(&self, name: &str) {
        self.key(name, EC);
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={name} -days 365 -out {name}.crt"
        ));
    }

    /// Makes the certificate `name` of `/CN=name`; without `extensions` of X.509 version 1.
    pub(in crate::net::certificates) fn issue(
        &self,
        name: &str,
        authority: &str,
        extensions: Option<&str>,
        more: &str,
    ) {
        self.issue_to(&format!("/CN={name}"), name, authority, extensions, more);
    }

    pub(in crate::net::certificates) fn issue_to(
        &self,
        subject: &str,
        name: &str,
        authority: &str,
        extensions: Option<&str>,
        more: &str,
    ) {
        if !self.path(&format!("{name}.key")).exists() {
            self.key(name, EC);
        }
        self.openssl(&format!(
            "req -new -utf8 -multivalue-rdn -key {name}.key -subj {subject} -out {name}.csr"
        ));
        let extensions = match extensions {
            Some(extensions) => {
                self.write(&format!("{name}.ext"), extensions);
                format!("-extfile {name}.ext")
            }
            None => String::new(),
        };
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial {extensions} \
             -out {name}.crt {more}"
        ));
    }

    /// Makes a revocation list `name` of `authority` in which these certificates are.
    fn revoke(&self, name: &str, authority: &str, revoked: &[&str], more: &str) {
        self.write(
            "ca.cnf",
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=30\n",
        );
        self.write("index", "");
        let ca = format!("ca -config ca.cnf -keyfile {authority}.key -cert {authority}.crt");
        for certificate in revoked {
            self.openssl(&format!("{ca} -revoke {certificate}.crt"));
        }
        self.openssl(&format!("{ca} -gencrl {more} -out {name}"));
    }

    /// Whether OpenSSL lets the client `name` in, which sends these along, by the authorities in `trusted.crt`.
    fn openssl_accepts(&self, name: &str, sent: &[&str], more: &str) -> bool {
        self.openssl_verifies("sslclient", name, sent, more)
    }

    /// Whether OpenSSL accepts `name` for this purpose, which sends these along, by the authorities in `trusted.crt`.
    pub(in crate::net::certificates) fn openssl_verifies(
        &self,
        purpose: &str,
        name: &str,
        sent: &[&str],
        more: &str,
    ) -> bool {
        let mut command = Command::new("openssl");
        command.args(
            "verify -auth_level 2 -CAfile trusted.crt -no-CApath -no-CAstore -purpose".split(' '),
        );
        command.arg(purpose);
        for sent in sent {
            command.args(["-untrusted", &format!("{sent}.crt")]);
        }
        command.args(more.split_whitespace());
        let output = command
            .arg(format!("{name}.crt"))
            .current_dir(self.dir.path())
            .output();
        output.expect("openssl is installed").status.success()
    }

    /// One-way TLS with `server`.
    pub(in crate::net::certificates) fn one_way(&self) -> config::Tls {
        config::Tls::one_way(self.path("server.crt"), self.path("server.key"))
    }

    /// Mutual TLS with `server` for the clients of `cafile`.
    pub(in crate::net::certificates) fn mutual(&self, cafile: &str) -> config::Tls {
        config::Tls {
            cafile: Some(self.path(cafile)),
            require_certificate: true,
            user_name: Some(CertificateName::CommonName),
            ..self.one_way()
        }
    }

    /// The certificates in these files.
    pub(in crate::net::certificates) fn chain(
        &self,
        names: &[&str],
    ) -> Vec<CertificateDer<'static>> {
        names
            .iter()
            .flat_map(|name| pem::certificates(&self.path(&format!("{name}.crt"))).expect(name))
            .collect()
    }

    fn client(&self, names: &[&str]) -> TestClient {
        let key = private_key(
            &self.path(&format!("{}.key", names[0])),
            &aws_lc_rs::default_provider(),
        );
        TestClient::new(Some(CertifiedKey::new(
            self.chain(names),
            key.expect("a key"),
        )))
    }
}

fn load(tls: &config::Tls) -> TlsContext {
    TlsContext::load(tls, None).unwrap_or_else(|error| panic!("{error}"))
}

/// What `context` says of a chain; empty if it accepts it.
fn verdict(context: &TlsContext, chain: &[CertificateDer<'_>]) -> String {
    match context.still_accepts(chain) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// A client that accepts every server and signs with any certificate.
#[derive(Clone)]
struct TestClient(ClientConfig);

#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl TestClient {
    fn new(certified: Option<CertifiedKey>) -> TestClient {
        TestClient::with_versions(certified, &[&TLS13, &TLS12])
    }

    fn with_versions(
        certified: Option<CertifiedKey>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TestClient {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting))
            .with_client_cert_resolver(Arc::new(Shows(certified.map(Arc::new))));
        config.resumption = Resumption::in_memory_sessions(8);
        TestClient(config)
    }

    fn only(mut self, version: &'static rustls::SupportedProtocolVersion) -> TestClient {
        let resolver = Arc::clone(&self.0.client_auth_cert_resolver);
        self = TestClient::with_versions(None, &[version]);
        self.0.client_auth_cert_resolver = resolver;
        self
    }

    fn connect(&self, context: &TlsContext) -> Result<ServerConnection, Error> {
        self.connect_with(Arc::clone(context.server_config()))
    }

    fn connect_with(&self, config: Arc<ServerConfig>) -> Result<ServerConnection, Error> {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(self.0.clone()), name).expect("a client");
        let mut server = ServerConnection::new(config).expect("a server");
        for _ in 0..10 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client
                    .write_tls(&mut bytes)
                    .expect("a Vec takes everything");
            }
            let mut bytes = bytes.as_slice();
            while !bytes.is_empty() {
                server.read_tls(&mut bytes).expect("a slice");
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server
                    .write_tls(&mut bytes)
                    .expect("a Vec takes everything");
            }
            let mut bytes = bytes.as_slice();
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).expect("a slice");
                client.process_new_packets()?;
            }
        }
        assert!(!server.is_handshaking(), "the handshake has stopped");
        Ok(server)
    }
}

#[test]
fn keys_of_every_kind_serve() {
    let lab = Lab::new();
    for (name, algorithm, convert) in [
        ("rsa8", "RSA -pkeyopt rsa_keygen_bits:2048", ""),
        (
            "rsa1",
            "RSA -pkeyopt rsa_keygen_bits:3072",
            "rsa -traditional",
        ),
        ("p256", EC, ""),
        ("sec1", EC, "ec"),
        ("p384", "EC -pkeyopt ec_paramgen_curve:P-384", ""),
        ("p521", "EC -pkeyopt ec_paramgen_curve:P-521", "ec"),
        ("ed25519", "ED25519", ""),
    ] {
        lab.key(name, algorithm);
        for (version, extensions) in [("v1", None), ("v3", Some("subjectAltName=DNS:localhost"))] {
            lab.issue(name, "ca", extensions, "");
            let mut tls = lab.one_way();
            tls.certfile = lab.path(&format!("{name}.crt"));
            tls.keyfile = lab.path(&format!("{name}.key"));
            if !convert.is_empty() {
                lab.openssl(&format!("{convert} -in {name}.key -out {name}.converted"));
                tls.keyfile = lab.path(&format!("{name}.converted"));
            }
            let context = load(&tls);
            assert_eq!(context.warnings(), [""; 0], "{name} {version}");
            for version in [&TLS12, &TLS13] {
                let server = TestClient::new(None).only(version).connect(&context);
                let server = server.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(server.protocol_version(), Some(version.version), "{name}");
            }
        }
    }
    // Parameters in front, as `openssl ecparam -genkey` writes them, and a key in the same file as its certificate.
    lab.openssl("ecparam -genkey -name prime256v1 -out old.key");
    lab.issue("old", "ca", None, "");
    let both = lab.write(
        "both.pem",
        [lab.read("old.key"), b"\n".to_vec(), lab.read("old.crt")].concat(),
    );
    let mut tls = lab.one_way();
    (tls.certfile, tls.keyfile) = (both.clone(), both);
    load(&tls);
}

#[test]
fn files_that_do_not_serve() {
    let lab = Lab::new();
    lab.authority("intermediate");
    lab.key("other", EC);
    lab.key("short", "RSA -pkeyopt rsa_keygen_bits:1024");
    lab.issue("short", "ca", None, "");
    lab.issue("sha1", "ca", None, "-sha1");
    lab.key("ed448", "ED448");
    lab.issue("ed448", "ca", None, "");
    lab.openssl("pkcs8 -topk8 -in server.key -passout pass:secret -out encrypted.key");
    lab.openssl("rsa -traditional -aes128 -passout pass:secret -in short.key -out encrypted1.key");
    lab.openssl("x509 -in server.crt -outform DER -out der.crt");
    lab.openssl("pkey -in server.key -outform DER -out der.key");
    lab.write("empty", " \n");
    lab.write("text", "certfile\n");
    lab.write(
        "several.key",
        [lab.read("other.key"), lab.read("server.key")].concat(),
    );
    lab.write(
        "order.crt",
        [lab.read("ca.crt"), lab.read("server.crt")].concat(),
    );
    let pem = String::from_utf8(lab.read("server.crt")).expect("PEM");
    lab.write("half.crt", &pem[..pem.len() / 2]);
    lab.write("damaged.crt", pem.replacen("MII", "M!I", 1));
    lab.write("damaged2.crt", pem.replacen("MII", "MIJ", 1));
    for (certfile, keyfile, expected) in [
        (
            "none.crt",
            "server.key",
            "none.crt: No such file or directory.",
        ),
        (
            "server.crt",
            "none.key",
            "none.key: No such file or directory.",
        ),
        ("empty", "server.key", "empty: the file is empty."),
        ("server.crt", "empty", "empty: the file is empty."),
        ("text", "server.key", "text: no certificate in PEM"),
        (
            "server.key",
            "server.key",
            "server.key: no certificate in PEM",
        ),
        (
            "server.crt",
            "server.crt",
            "server.crt: no private key in PEM",
        ),
        ("half.crt", "server.key", "no END line"),
        ("damaged.crt", "server.key", "PEM block in it is damaged"),
        (
            "damaged2.crt",
            "server.key",
            "certificate 1 of 1 in it cannot be read",
        ),
        ("der.crt", "server.key", "openssl x509 -inform DER"),
        ("server.crt", "der.key", "openssl pkey -inform DER"),
        ("server.crt", "other.key", "belongs to no certificate in it"),
        (
            "order.crt",
            "server.key",
            "wrong order: that of the key must come first and is number 2",
        ),
        ("server.crt", "encrypted.key", "openssl pkey -in"),
        ("short.crt", "encrypted1.key", "openssl pkey -in"),
        ("server.crt", "several.key", "2 private keys"),
        (
            "short.crt",
            "short.key",
            "an RSA key of 1024 bits is too short",
        ),
        ("sha1.crt", "sha1.key", "signed with SHA-1"),
        ("ed448.crt", "ed448.key", "kind of key is not supported"),
        (".", "server.key", "Is a directory"),
    ] {
        let mut tls = lab.one_way();
        (tls.certfile, tls.keyfile) = (lab.path(certfile), lab.path(keyfile));
        let error = TlsContext::load(&tls, None)
            .expect_err(certfile)
            .to_string();
        assert!(error.contains(expected), "{certfile} {keyfile}: {error}");
        assert!(
            error.starts_with("Error: Unable to load server "),
            "{error}"
        );
        assert!(
            error.contains(certfile) || error.contains(keyfile),
            "{error}"
        );
        assert!(
            error.contains("openssl ")
                || error.contains("Leave the one")
                || error.contains("cat server.crt"),
            "{error}"
        );
    }
}

#[test]
fn what_is_only_worth_a_warning() {
    let lab = Lab::new();
    lab.issue("late", "ca", None, "-days -1");
    lab.openssl("req -x509 -new -sha1 -key server.key -subj /CN=localhost -out pinned.crt");
    lab.authority("other");
    lab.write(
        "chain.crt",
        [lab.read("server.crt"), lab.read("other.crt")].concat(),
    );
    lab.write(
        "good.crt",
        [lab.read("server.crt"), lab.read("ca.crt")].concat(),
    );
    for (certfile, keyfile, expected) in [
        ("late.crt", "late.key", "has expired"),
        ("pinned.crt", "server.key", "signed with SHA-1"),
        ("chain.crt", "server.key", "not in order"),
        ("good.crt", "server.key", ""),
    ] {
        let mut tls = lab.one_way();
        (tls.certfile, tls.keyfile) = (lab.path(certfile), lab.path(keyfile));
        let warnings = load(&tls).warnings().join("\n");
        assert!(warnings.contains(expected), "{certfile}: {warnings}");
        assert_eq!(
            warnings.is_empty(),
            expected.is_empty(),
            "{certfile}: {warnings}"
        );
    }
}

#[test]
fn authorities_fail_closed() {
    let lab = Lab::new();
    lab.issue("client", "ca", None, "");
    lab.write("empty", "");
    let pem = String::from_utf8(lab.read("ca.crt")).expect("PEM");
    lab.write("damaged", pem.clone() + &pem.replacen("MII", "MI!", 1));
    lab.write("half", pem.clone() + &pem[..pem.len() / 2]);
    for (cafile, expected) in [
        ("empty", "the file is empty"),
        ("damaged", "damaged"),
        ("half", "no END line"),
        ("server.key", "no certificate in PEM"),
        ("none", "No such file"),
        ("client.crt", "no certificate authority is in it"),
    ] {
        let error = TlsContext::load(&lab.mutual(cafile), None)
            .expect_err(cafile)
            .to_string();
        assert!(
            error.contains(expected) && error.contains(cafile),
            "{cafile}: {error}"
        );
        assert!(error.contains("openssl "), "{error}");
    }
    let mut tls = lab.mutual("ca.crt");
    tls.cafile = None;
    let error = TlsContext::load(&tls, None)
        .expect_err("no authorities")
        .to_string();
    assert!(error.contains("cafile or capath"), "{error}");

    fs::create_dir(lab.path("capath")).expect("a directory");
    tls.capath = Some(lab.path("capath"));
    lab.write("capath/README", "put certificates here");
    let error = TlsContext::load(&tls, None)
        .expect_err("an empty directory")
        .to_string();
    assert!(error.contains("no file in this directory"), "{error}");
    lab.write("capath/broken.pem", &pem[..pem.len() / 2]);
    assert!(
        TlsContext::load(&tls, None).is_err(),
        "a broken certificate is none"
    );
    std::os::unix::fs::symlink(lab.path("ca.crt"), lab.path("capath/0a1b2c3d.0")).expect("a link");
    let context = load(&tls);
    assert!(
        context.warnings()[0].contains("broken.pem"),
        "{:?}",
        context.warnings()
    );
    assert_eq!(verdict(&context, &lab.chain(&["client"])), "");

    // Without require_certificate a broken cafile is still a mistake, while an empty directory does no harm.
    tls.require_certificate = false;
    tls.cafile = Some(lab.path("damaged"));
    assert!(TlsContext::load(&tls, None).is_err());
    tls.cafile = None;
    let context = load(&tls);
    assert!(!context.requires_certificate() && !context.warnings().is_empty());
}

/// Name, issuer, extensions, more words for `openssl x509`, what the client sends along, the verdict.
type Case<'a> = (
    &'a str,
    &'a str,
    Option<&'a str>,
    &'a str,
    &'a [&'a str],
    &'a str,
);

#[test]
fn chains_that_are_accepted_and_refused() {
    let lab = Lab::new();
    let ca = "basicConstraints=critical,CA:TRUE";
    let foreign = "foreign certificate: unknown issuer";
    let not_authority = "no certificate authority";
    lab.openssl("req -new -key ca.key -subj /CN=root1 -out root1.csr");
    lab.openssl("x509 -req -in root1.csr -signkey ca.key -out root1.crt");
    fs::copy(lab.path("ca.key"), lab.path("root1.key")).expect("a copy");
    lab.key("short", "RSA -pkeyopt rsa_keygen_bits:1024");
    lab.key("ed448", "ED448");
    lab.authority("stranger");
    lab.openssl("req -x509 -new -key stranger.key -subj /CN=ca -out impostor.crt");
    fs::copy(lab.path("stranger.key"), lab.path("impostor.key")).expect("a copy");
    lab.key("self", EC);
    lab.openssl("req -x509 -new -key self.key -subj /CN=self -sha1 -out self.crt");
    lab.key("self2", EC);
    lab.openssl("req -x509 -new -key self2.key -subj /CN=self -out self2.crt");
    lab.issue("sub", "ca", Some(ca), "");
    lab.issue(
        "sub0",
        "sub",
        Some("basicConstraints=CA:TRUE,pathlen:0"),
        "",
    );
    lab.issue("sub00", "sub0", Some(ca), "");
    lab.issue(
        "nosign",
        "ca",
        Some("basicConstraints=CA:TRUE\nkeyUsage=cRLSign"),
        "",
    );
    lab.issue(
        "mailca",
        "ca",
        Some("basicConstraints=CA:TRUE\nextendedKeyUsage=emailProtection"),
        "",
    );
    lab.issue("lateca", "ca", Some(ca), "-days -1");
    lab.issue("sha1ca", "ca", Some(ca), "-sha1");
    lab.issue("shortca", "ca", Some(ca), "");
    lab.issue(
        "named",
        "ca",
        Some("basicConstraints=CA:TRUE\nnameConstraints=critical,permitted;DNS:good.example"),
        "",
    );
    lab.issue("v1", "ca", None, "");
    lab.issue("v3", "ca", Some("subjectAltName=DNS:x"), "");
    let cases: &[Case<'_>] = &[
        ("c1", "ca", None, "", &[], ""),
        ("c2", "ca", Some("subjectAltName=DNS:x"), "", &[], ""),
        ("c3", "ca", Some("extendedKeyUsage=clientAuth"), "", &[], ""),
        (
            "c4",
            "ca",
            Some("extendedKeyUsage=serverAuth,clientAuth"),
            "",
            &[],
            "",
        ),
        (
            "c5",
            "ca",
            Some("extendedKeyUsage=serverAuth"),
            "",
            &[],
            "lacks clientAuth",
        ),
        (
            "c6",
            "ca",
            Some("extendedKeyUsage=anyExtendedKeyUsage"),
            "",
            &[],
            "lacks clientAuth",
        ),
        ("c7", "ca", Some("keyUsage=digitalSignature"), "", &[], ""),
        (
            "c8",
            "ca",
            Some("keyUsage=keyEncipherment"),
            "",
            &[],
            "key usage lacks digitalSignature",
        ),
        ("c9", "ca", Some("nsCertType=client"), "", &[], ""),
        (
            "c10",
            "ca",
            Some("nsCertType=server"),
            "",
            &[],
            "not for clients",
        ),
        (
            "c11",
            "ca",
            Some("1.2.3.4=critical,ASN1:NULL"),
            "",
            &[],
            "unknown critical extension",
        ),
        ("c12", "ca", Some("1.2.3.4=ASN1:NULL"), "", &[], ""),
        ("c13", "ca", Some(ca), "", &[], ""),
        ("c14", "ca", None, "-sha1", &[], "signed with SHA-1"),
        (
            "c15",
            "ca",
            None,
            "-days -1",
            &[],
            "certificate expired on 20",
        ),
        (
            "c16",
            "ca",
            Some("subjectAltName=DNS:x"),
            "-days -1",
            &[],
            "certificate expired on 20",
        ),
        ("short", "ca", None, "", &[], "RSA of 1024 bits"),
        ("ed448", "ca", None, "", &[], "unsupported kind of key"),
        ("c17", "root1", None, "", &[], ""),
        ("c18", "stranger", None, "", &[], foreign),
        ("c19", "stranger", None, "", &["stranger"], foreign),
        ("c20", "impostor", None, "", &["impostor"], "bad signature"),
        ("c21", "sub", None, "", &["sub"], ""),
        (
            "c22",
            "sub",
            Some("subjectAltName=DNS:x"),
            "",
            &["stranger", "sub", "ca"],
            "",
        ),
        ("c23", "sub", None, "", &[], foreign),
        ("c24", "sub0", None, "", &["sub", "sub0"], ""),
        (
            "c25",
            "sub00",
            None,
            "",
            &["sub00", "sub0", "sub"],
            "chain is too long",
        ),
        ("c26", "v1", None, "", &["v1"], not_authority),
        ("c27", "v3", None, "", &["v3"], not_authority),
        ("c28", "nosign", None, "", &["nosign"], not_authority),
        ("c29", "mailca", None, "", &["mailca"], "lacks clientAuth"),
        (
            "c30",
            "lateca",
            None,
            "",
            &["lateca"],
            "certificate expired",
        ),
        ("c31", "sha1ca", None, "", &["sha1ca"], "signed with SHA-1"),
        (
            "c32",
            "named",
            Some("subjectAltName=DNS:a.good.example"),
            "",
            &["named"],
            "",
        ),
        (
            "c33",
            "named",
            Some("subjectAltName=DNS:bad.example"),
            "",
            &["named"],
            "NameConstraintViolation",
        ),
        ("c34", "named", None, "", &["named"], "not accepted"),
        // A client's certificate among the trusted ones makes no authority of it.
        ("c35", "v1", None, "", &[], not_authority),
        ("c36", "v3", None, "", &[], not_authority),
    ];
    for (name, issuer, extensions, more, _, _) in cases {
        lab.issue(name, issuer, *extensions, more);
    }
    let trusted = ["ca.crt", "root1.crt", "self.crt", "v1.crt", "v3.crt"]
        .map(|name| lab.read(name))
        .concat();
    lab.write("trusted.crt", trusted);
    let context = load(&lab.mutual("trusted.crt"));
    let mut ignoring = lab.mutual("trusted.crt");
    ignoring.ignores_dates = true;
    let ignoring = load(&ignoring);
    for (name, _, _, _, sent, expected) in cases {
        let chain = lab.chain(&[&[*name], *sent].concat());
        for (context, ignores_dates) in [(&context, false), (&ignoring, true)] {
            let found = verdict(context, &chain);
            let expected = match ignores_dates && expected.contains("expired") {
                true => "",
                false => expected,
            };
            let case = format!("{name}, ignoring dates {ignores_dates}: {found:?}");
            assert!(found.contains(expected), "{case}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{case}");
            // Where OpenSSL accepts more than we do: a kind of key that rustls does not have, and a name that is none.
            if !["ed448", "c34"].contains(name) {
                assert_eq!(
                    found.is_empty(),
                    lab.openssl_accepts(
                        name,
                        sent,
                        if ignores_dates { "-no_check_time" } else { "" }
                    ),
                    "{case}"
                );
            }
        }
    }
    assert!(lab.openssl_accepts("self", &[], "") && !lab.openssl_accepts("self2", &[], ""));
    // Trusted by itself, whatever it is signed with; another of the same name is not.
    assert_eq!(verdict(&context, &lab.chain(&["self"])), "");
    assert!(!verdict(&context, &lab.chain(&["self2"])).is_empty());
    // Invariant 2 of the context.
    assert_eq!(verdict(&context, &[]), "the client showed no certificate");
    assert!(verdict(&context, &[CertificateDer::from(vec![0x30, 3, 1, 2])]).contains("damaged"));
    for length in [0, 1, 5, 40, 200] {
        let cut = CertificateDer::from(lab.chain(&["c2"])[0][..length].to_vec());
        assert!(verdict(&context, &[cut]).contains("damaged"));
    }
}

#[test]
fn a_certificate_with_any_byte_changed_is_refused() {
    let lab = Lab::new();
    lab.issue("v1", "ca", None, "");
    lab.issue("v3", "ca", Some("extendedKeyUsage=clientAuth"), "");
    let context = load(&lab.mutual("ca.crt"));
    for name in ["v1", "v3"] {
        let chain = lab.chain(&[name]);
        for i in 0..chain[0].len() {
            let mut changed = chain[0].to_vec();
            changed[i] ^= 1 << (i % 8);
            assert_ne!(
                verdict(&context, &[CertificateDer::from(changed.clone())]),
                "",
                "{name}, byte {i}: {:02x?} -> {:02x}",
                &chain[0][i..],
                changed[i]
            );
        }
    }
}

#[test]
fn no_bytes_make_it_panic() {
    use proptest::prelude::*;
    let lab = Lab::new();
    lab.issue(
        "client",
        "ca",
        Some("extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature"),
        "",
    );
    lab.revoke("ca.crl", "ca", &["client"], "");
    let mut tls = lab.mutual("ca.crt");
    tls.user_name = Some(CertificateName::Subject);
    let context = load(&tls);
    let certificate = lab.chain(&["client"])[0].to_vec();
    let list = pem::revocation_lists(&lab.path("ca.crl"))
        .expect("a list")
        .remove(0);
    let some_bytes = prop::collection::vec(any::<u8>(), 0..12);
    proptest!(|(at in any::<prop::sample::Index>(), bytes in some_bytes, cut in 0usize..12)| {
        let replace = |whole: &[u8]| {
            let at = at.index(whole.len());
            let end = (at + cut).min(whole.len());
            [&whole[..at], &bytes, &whole[end..]].concat()
        };
        let changed = CertificateDer::from(replace(&certificate));
        let authority = CertificateDer::from(replace(&lab.chain(&["ca"])[0]));
        if changed.as_ref() != certificate {
            prop_assert!(context.still_accepts(&[changed.clone(), authority]).is_err());
        }
        let _ = context.user_name(&[changed, CertificateDer::from(bytes.clone())]);
        let _ = RevocationList::parse(replace(&list));
        let _ = x509::element(&bytes);
    });
}

#[test]
fn work_for_one_client_is_bounded() {
    let lab = Lab::new();
    // Authorities of one name and two keys that all issue each other.
    lab.authority("a");
    lab.openssl("req -x509 -new -key ca.key -subj /CN=a -out b.crt");
    fs::copy(lab.path("ca.key"), lab.path("b.key")).expect("a copy");
    let mut sent = Vec::new();
    for i in 0..8 {
        for issuer in ["a", "b"] {
            let name = format!("{issuer}{i}");
            fs::copy(
                lab.path(&format!("{issuer}.key")),
                lab.path(&format!("{name}.key")),
            )
            .expect("a copy");
            lab.issue_to("/CN=a", &name, issuer, Some("basicConstraints=CA:TRUE"), "");
            sent.push(name);
        }
    }
    lab.issue("client", "a0", None, "");
    let context = load(&lab.mutual("ca.crt"));
    let names: Vec<&str> = std::iter::once("client")
        .chain(sent.iter().map(String::as_str))
        .collect();
    let found = verdict(&context, &lab.chain(&names));
    assert!(
        found.contains("too many") || found.contains("too long"),
        "{found}"
    );
}

#[test]
fn revocation_lists_are_needed_signed_and_in_date() {
    let lab = Lab::new();
    lab.authority("other");
    lab.issue("sub", "ca", Some("basicConstraints=CA:TRUE"), "");
    lab.issue("good", "ca", None, "");
    lab.issue("bad", "ca", Some("subjectAltName=DNS:x"), "");
    lab.issue("below", "sub", None, "");
    lab.issue("elsewhere", "other", None, "");
    lab.authority("nocrl");
    lab.openssl(
        "req -x509 -new -key nocrl.key -subj /CN=nocrl -addext keyUsage=keyCertSign -out nocrl.crt",
    );
    lab.issue("silent", "nocrl", None, "");
    lab.revoke("ca.crl", "ca", &["bad", "sub"], "");
    lab.revoke("other.crl", "other", &[], "");
    lab.revoke("nocrl.crl", "nocrl", &[], "");
    lab.revoke("sub.crl", "sub", &[], "");
    lab.revoke(
        "late.crl",
        "ca",
        &["bad"],
        "-crl_lastupdate 20200101000000Z -crl_nextupdate 20210101000000Z",
    );
    lab.revoke(
        "early.crl",
        "ca",
        &[],
        "-crl_lastupdate 20900101000000Z -crl_nextupdate 20910101000000Z",
    );
    // Of the name of `ca`, but not by it.
    lab.openssl("req -x509 -new -key other.key -subj /CN=ca -out forger.crt");
    fs::copy(lab.path("other.key"), lab.path("forger.key")).expect("a copy");
    lab.revoke("forged.crl", "forger", &["good"], "");
    lab.write(
        "trusted.crt",
        ["ca.crt", "other.crt", "nocrl.crt"]
            .map(|name| lab.read(name))
            .concat(),
    );
    let unknown = "no revocation list of the certificate's issuer";
    for (lists, chain, expected) in [
        (&["ca.crl"][..], &["good"][..], ""),
        (&["ca.crl"], &["bad"], "certificate revoked"),
        (&["ca.crl"], &["elsewhere"], unknown),
        (&["ca.crl", "other.crl"], &["elsewhere"], ""),
        (&["other.crl", "ca.crl"], &["bad"], "certificate revoked"),
        (
            &["late.crl"],
            &["good"],
            "revocation list of its issuer expired on 2021-01-01",
        ),
        (&["late.crl"], &["bad"], "certificate revoked"),
        (&["late.crl", "ca.crl"], &["good"], ""),
        (&["early.crl"], &["good"], "not yet valid"),
        (&["forged.crl"], &["good"], "bad signature"),
        (&["forged.crl", "ca.crl"], &["good"], ""),
        (&["nocrl.crl"], &["silent"], "bad signature"),
        // Only the client's own certificate is looked up, as with Mosquitto.
        (&["ca.crl"], &["below", "sub"], unknown),
        (&["ca.crl", "sub.crl"], &["below", "sub"], ""),
    ] {
        lab.write(
            "lists.crl",
            lists
                .iter()
                .map(|name| lab.read(name))
                .collect::<Vec<_>>()
                .concat(),
        );
        let mut tls = lab.mutual("trusted.crt");
        tls.crlfile = Some(lab.path("lists.crl"));
        // OpenSSL looks no further than a list that is not signed; we take the one behind it.
        if *lists != ["forged.crl", "ca.crl"] {
            let openssl =
                lab.openssl_accepts(chain[0], &chain[1..], "-crl_check -CRLfile lists.crl");
            assert_eq!(openssl, expected.is_empty(), "{lists:?} {chain:?}");
        }
        for ignores_dates in [false, true] {
            tls.ignores_dates = ignores_dates;
            let found = verdict(&load(&tls), &lab.chain(chain));
            assert!(found.contains(expected), "{lists:?} {chain:?}: {found}");
            assert_eq!(
                found.is_empty(),
                expected.is_empty(),
                "{lists:?} {chain:?}: {found}"
            );
        }
    }
    let pem = String::from_utf8(lab.read("ca.crl")).expect("PEM");
    lab.write("empty.crl", "");
    lab.write("damaged.crl", pem.replacen("MI", "MJ", 1));
    lab.write("half.crl", pem.clone() + &pem[..pem.len() / 2]);
    for file in ["empty.crl", "damaged.crl", "half.crl", "none.crl", "ca.crt"] {
        let mut tls = lab.mutual("ca.crt");
        tls.crlfile = Some(lab.path(file));
        let error = TlsContext::load(&tls, None).expect_err(file).to_string();
        assert!(
            error.contains("Check crlfile.") && error.contains(file),
            "{error}"
        );
    }
    let mut tls = lab.mutual("ca.crt");
    tls.crlfile = Some(lab.path("late.crl"));
    assert!(load(&tls).warnings().join("\n").contains("has expired"));
}

#[test]
fn handshakes_with_client_certificates() {
    let lab = Lab::new();
    lab.issue("sub", "ca", Some("basicConstraints=CA:TRUE"), "");
    for (name, algorithm) in [
        ("rsa", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("p256", EC),
        ("p384", "EC -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "EC -pkeyopt ec_paramgen_curve:P-521"),
        ("ed25519", "ED25519"),
    ] {
        lab.key(name, algorithm);
    }
    let context = load(&lab.mutual("ca.crt"));
    for name in ["rsa", "p256", "p384", "p521", "ed25519"] {
        for (issuer, extensions) in [
            ("ca", None),
            ("sub", None),
            ("sub", Some("subjectAltName=DNS:x")),
        ] {
            lab.issue(name, issuer, extensions, "");
            for version in [&TLS12, &TLS13] {
                let client = lab.client(&[name, "sub"]).only(version);
                let server = client
                    .connect(&context)
                    .unwrap_or_else(|error| panic!("{name} of {issuer}: {error:?}"));
                let chain = server.peer_certificates().expect("a certificate");
                assert_eq!(
                    context.user_name(chain).expect("a name").as_deref(),
                    Some(name)
                );
                assert_eq!(verdict(&context, chain), "");
            }
        }
    }
    // The certificate of one with the key of another.
    for version in [&TLS12, &TLS13] {
        for (name, other) in [("p256", "server"), ("p256", "rsa"), ("rsa", "p256")] {
            let key = private_key(
                &lab.path(&format!("{other}.key")),
                &aws_lc_rs::default_provider(),
            );
            let stolen = CertifiedKey::new(lab.chain(&[name, "sub"]), key.expect("a key"));
            let error = TestClient::new(Some(stolen))
                .only(version)
                .connect(&context);
            assert!(error.is_err(), "{name} with the key of {other}");
        }
        let error = TestClient::new(None)
            .only(version)
            .connect(&context)
            .expect_err("no certificate");
        assert_eq!(describe(&error), "the client showed no certificate");
        lab.authority("stranger");
        lab.issue("foreign", "stranger", None, "");
        let error = lab
            .client(&["foreign"])
            .only(version)
            .connect(&context)
            .expect_err("foreign");
        assert!(describe(&error).starts_with("foreign certificate: unknown issuer"));
    }
}

#[test]
fn user_names_come_from_the_subject_as_openssl_prints_it() {
    let lab = Lab::new();
    let mut tls = lab.mutual("ca.crt");
    let by_common_name = load(&tls);
    tls.user_name = Some(CertificateName::Subject);
    let by_subject = load(&tls);
    for (i, (subject, common_name)) in [
        ("/C=DE/O=Works/OU=a+OU=b/CN=sensor", Ok("sensor")),
        ("/CN=first/CN=second", Ok("first")),
        ("/O=Zoë,~Söhne;~<x>/CN=Zoë", Ok("Zoë")),
        ("/CN=~#both~ends~", Ok(" #both ends ")),
        (
            "/DC=org/DC=example/UID=u1/emailAddress=a@b.c/CN=x\\+\\/#",
            Ok(""),
        ),
        ("/O=Works", Err(NameFault::Missing)),
        (
            "/O=\"quoted\\\\back\"/serialNumber=12/GN=g/SN=s/title=t/CN=x",
            Ok("x"),
        ),
        (
            "/street=s/postalCode=p/description=d/name=n/initials=i/dnQualifier=q/CN=x",
            Ok("x"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("n{i}");
        lab.issue_to(subject, &name, "ca", None, "");
        let printed = Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in"])
            .arg(lab.path(&format!("{name}.crt")))
            .output()
            .expect("openssl is installed");
        let printed = String::from_utf8(printed.stdout).expect("ASCII");
        let expected = printed
            .trim_end_matches('\n')
            .strip_prefix("subject=")
            .expect("a subject");
        let chain = lab.chain(&[&name]);
        let found = by_subject
            .user_name(&chain)
            .expect("a name")
            .expect("a name");
        assert_eq!(found, expected);
        match (by_common_name.user_name(&chain), common_name) {
            (Ok(found), Ok("")) => assert_eq!(found.as_deref(), Some("x+/#")),
            (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), Some(expected)),
            (Err(TlsError::Name(fault)), Err(expected)) => assert_eq!(fault, expected),
            other => panic!("{subject}: {other:?}"),
        }
    }
    assert!(matches!(
        by_subject.user_name(&[]),
        Err(TlsError::NoCertificate)
    ));
    tls.user_name = None;
    assert_eq!(load(&tls).user_name(&[]).expect("none is asked for"), None);
}

#[test]
fn names_that_could_be_taken_for_others_are_refused() {
    let lab = Lab::new();
    lab.key("client", EC);
    let context = load(&lab.mutual("ca.crt"));
    for (tag, value, fault) in [
        (0x0c, &b"admin\0x"[..], NameFault::ControlCharacter),
        (0x0c, b"admin\nx", NameFault::ControlCharacter),
        // UTF-16.
        (0x1e, b"\0a\0d\0m\0i\0n", NameFault::ControlCharacter),
        (0x14, b"a\xfc", NameFault::NotUtf8),
        (0x0c, b"", NameFault::Empty),
    ] {
        // A certificate whose subject is one attribute of that value, put together by hand.
        let element = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).expect("short");
            [&[tag, length], content].concat()
        };
        let attribute = [b"\x06\x03\x55\x04\x03".to_vec(), element(tag, value)].concat();
        let name = element(0x30, &element(0x31, &element(0x30, &attribute)));
        lab.issue("client", "ca", None, "");
        let chain = lab.chain(&["client"]);
        let old = b"\x30\x11\x31\x0f\x30\x0d\x06\x03\x55\x04\x03\x0c\x06client";
        let forged = replace_element(&chain[0], old, &name);
        match context.user_name(&[CertificateDer::from(forged)]) {
            Err(TlsError::Name(found)) => assert_eq!(found, fault, "{value:?}"),
            other => panic!("{value:?}: {other:?}"),
        }
    }
}

/// `certificate` with the element `old` of its signed part replaced.
fn replace_element(certificate: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let outer = x509::element(certificate).expect("DER");
    let tbs = x509::element(outer.content).expect("DER");
    let at = tbs
        .content
        .windows(old.len())
        .position(|window| window == old)
        .expect("the element");
    let changed = [&tbs.content[..at], new, &tbs.content[at + old.len()..]].concat();
    sequence(&[sequence(&changed), tbs.rest.to_vec()].concat())
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    [&[0x30, 0x82], &length[..], content].concat()
}

#[test]
fn sessions_are_resumed_in_their_own_context_only() {
    let lab = Lab::new();
    lab.issue("client", "ca", None, "");
    for tls in [lab.one_way(), lab.mutual("ca.crt")] {
        let context = load(&tls);
        let again = load(&tls);
        for version in [&TLS12, &TLS13] {
            let client = lab.client(&["client"]).only(version);
            let first = client.connect(&context).expect("a handshake");
            assert_ne!(first.handshake_kind(), Some(HandshakeKind::Resumed));
            let second = client.connect(&context).expect("a handshake");
            assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed));
            assert_eq!(second.peer_certificates(), first.peer_certificates());
            let third = client.connect(&again).expect("a handshake");
            assert_ne!(
                third.handshake_kind(),
                Some(HandshakeKind::Resumed),
                "{version:?}"
            );
        }
    }
    // A client that was known is a stranger to the next context.
    let client = lab.client(&["client"]);
    client
        .connect(&load(&lab.mutual("ca.crt")))
        .expect("a handshake");
    lab.authority("stranger");
    let error = client
        .connect(&load(&lab.mutual("stranger.crt")))
        .expect_err("foreign");
    assert!(describe(&error).starts_with("foreign"));
}

#[test]
fn versions_and_ciphers() {
    let lab = Lab::new();
    let mut tls = lab.one_way();
    tls.version_min = TlsVersion::V13;
    let error = TestClient::new(None)
        .only(&TLS12)
        .connect(&load(&tls))
        .expect_err("1.2");
    assert_eq!(describe(&error), "no TLS version in common");
    let server = TestClient::new(None).connect(&load(&tls)).expect("1.3");
    assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));

    tls.version_min = TlsVersion::V12;
    tls.ciphers = Some("ECDHE-ECDSA-AES128-GCM-SHA256:AES128-SHA".to_owned());
    tls.ciphers_tls13 = Some("TLS_CHACHA20_POLY1305_SHA256".to_owned());
    let context = load(&tls);
    assert_eq!(context.warnings().len(), 1);
    for (version, suite) in [
        (
            &TLS12,
            rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        (&TLS13, rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ] {
        let server = TestClient::new(None)
            .only(version)
            .connect(&context)
            .expect("a handshake");
        assert_eq!(
            server.negotiated_cipher_suite().expect("one").suite(),
            suite
        );
    }
    // For a key that the broker does not have.
    tls.ciphers = Some("aRSA".to_owned());
    let error = TestClient::new(None)
        .only(&TLS12)
        .connect(&load(&tls))
        .expect_err("no RSA key");
    assert_eq!(describe(&error), "no cipher suite in common");
    for (ciphers, tls13) in [(Some("AES128-SHA"), None), (None, Some("AES128-SHA"))] {
        tls.ciphers = ciphers.map(str::to_owned);
        tls.ciphers_tls13 = tls13.map(str::to_owned);
        let error = TlsContext::load(&tls, None)
            .expect_err("nothing left")
            .to_string();
        assert!(
            error.contains("Check cipher list \"AES128-SHA\"")
                && error.contains("AES_128_GCM") == tls13.is_some(),
            "{error}"
        );
    }
}

#[test]
fn post_quantum_key_exchange_is_preferred() {
    let lab = Lab::new();
    let server = TestClient::new(None)
        .connect(&load(&lab.one_way()))
        .expect("a handshake");
    let group = server.negotiated_key_exchange_group().expect("one").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn the_protocol_mqtt_is_agreed_on_and_others_do_no_harm() {
    let lab = Lab::new();
    let context = load(&lab.one_way());
    for (offered, agreed) in [
        (&["mqtt"][..], Some(&b"mqtt"[..])),
        (&["x-amzn-mqtt-ca", "mqtt"], Some(b"mqtt")),
        (&["http/1.1"], None),
        (&[], None),
    ] {
        let mut client = TestClient::new(None);
        client.0.alpn_protocols = offered
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        client
            .connect(&context)
            .expect("without looking at the client");

        let name = ServerName::try_from("localhost").expect("a name");
        let mut hello = Vec::new();
        ClientConnection::new(Arc::new(client.0.clone()), name)
            .expect("a client")
            .write_tls(&mut hello)
            .expect("a Vec takes everything");
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).expect("a slice");
        let accepted = acceptor.accept().expect("a hello").expect("a whole one");
        let config = Arc::clone(context.server_config_for(&accepted.client_hello()));
        let server = client.connect_with(config).expect("a handshake");
        assert_eq!(server.alpn_protocol(), agreed, "{offered:?}");
    }
}

#[test]
fn what_is_not_tls_is_told() {
    let lab = Lab::new();
    let context = load(&lab.one_way());
    for bytes in [
        &b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4",
    ] {
        let mut server =
            ServerConnection::new(Arc::clone(context.server_config())).expect("a server");
        server.read_tls(&mut &bytes[..]).expect("a slice");
        let error = server.process_new_packets().expect_err("no TLS");
        assert_eq!(
            describe(&error),
            "not TLS: the client seems to speak plain text on a TLS port"
        );
    }
    // A hello of TLS 1.1, and one of TLS 1.2 whose only suite is RSA with AES-CBC.
    for (hello, reason) in [
        (
            &b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x02"[..],
            "older than TLS 1.2",
        ),
        (
            b"\x16\x03\x01\0\x3b\x01\0\0\x37\x03\x03",
            "no cipher suite with ECDHE",
        ),
    ] {
        let schemes: &[u8] = match hello[10] {
            3 => b"\0\x0c\0\x0d\0\x08\0\x06\x04\x03\x08\x04\x04\x01",
            _ => b"\0\0",
        };
        let mut bytes = [hello, &[7; 32], b"\0\0\x02\0\x2f\x01\0", schemes].concat();
        let length = u16::try_from(bytes.len() - 5).expect("short");
        bytes[3..5].copy_from_slice(&length.to_be_bytes());
        bytes[7..9].copy_from_slice(&(length - 4).to_be_bytes());
        let mut server =
            ServerConnection::new(Arc::clone(context.server_config())).expect("a server");
        server.read_tls(&mut bytes.as_slice()).expect("a slice");
        let error = server.process_new_packets().expect_err("nothing in common");
        assert!(describe(&error).contains(reason), "{error:?}");
    }
    // A client that does not like our certificate says so.
    let alert = Error::AlertReceived(rustls::AlertDescription::UnknownCA);
    assert!(describe(&alert).contains("does not accept the certificate in certfile"));
}

#[test]
fn secrets_go_to_the_key_log_and_nowhere_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let path = lab.path("keys.log");
    let context = TlsContext::load(&lab.one_way(), Some(&path)).expect("a context");
    assert!(context.warnings()[0].contains("keys.log"));
    TestClient::new(None)
        .connect(&context)
        .expect("a handshake");
    let text = String::from_utf8(lab.read("keys.log")).expect("text");
    assert!(
        text.lines()
            .any(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")),
        "{text}"
    );
    assert!(text.lines().all(|line| line.split(' ').count() == 3));
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{context:?}").contains("BEGIN"));
    let error = TlsContext::load(&lab.one_way(), Some(&lab.path("none/keys.log")))
        .expect_err("no directory");
    assert!(error.to_string().contains("keys.log"), "{error}");
}

#[test]
fn contexts_that_let_the_same_clients_in_are_known() {
    let lab = Lab::new();
    lab.authority("other");
    lab.revoke("a.crl", "ca", &[], "");
    lab.issue("lost", "ca", None, "");
    lab.revoke("b.crl", "ca", &["lost"], "");
    let with = |crlfile: Option<&str>, ignores_dates| config::Tls {
        crlfile: crlfile.map(|name| lab.path(name)),
        ignores_dates,
        ..lab.mutual("ca.crt")
    };
    let contexts: Vec<TlsContext> = [
        lab.one_way(),
        lab.mutual("other.crt"),
        with(None, false),
        with(None, true),
        with(Some("a.crl"), false),
        with(Some("b.crl"), false),
    ]
    .iter()
    .map(load)
    .collect();
    lab.issue("server", "ca", None, "");
    for (i, one) in contexts.iter().enumerate() {
        for (j, other) in contexts.iter().enumerate() {
            assert_eq!(one.lets_in_the_same(other), i == j, "{i} {j}");
        }
    }
    assert!(contexts[2].lets_in_the_same(&load(&with(None, false))));
    assert!(contexts[5].lets_in_the_same(&load(&with(Some("b.crl"), false))));
}

#[test]
fn contexts_are_made_off_the_loop() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<TlsContext>();
    is_send_and_sync::<TlsError>();
}

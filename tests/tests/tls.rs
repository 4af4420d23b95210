//! TLS like libpq's `sslmode`, on both drivers: what is encrypted, what is refused, and the errors.

use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Error, Queue};
use pm_sandbox::{Pooler, Server, ServerOptions};
use pm_tests::{next, within};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const DRIVERS: [&str; 2] = ["tokio-postgres", "sqlx"];

async fn connect(driver: &str, text: &str, options: ConnectOptions) -> Result<Queue, Error> {
    match driver {
        "sqlx" => within(driver, pm_driver_sqlx::connect_with(text, options)).await,
        _ => within(driver, pm_driver_tokio_postgres::connect_with(text, options)).await,
    }
}

/// A server with TLS, and its certificates. It lives as long as the test process.
struct Tls {
    server: Server,
    /// Where the certificates are, owned by the server's account: `ca`, `server`, `client` and `other`, `.crt` and
    /// `.key`.
    dir: PathBuf,
}

const HBA: &str = "\
local all all trust
hostssl tls_only all 127.0.0.1/32 trust
hostnossl plain_only all 127.0.0.1/32 trust
hostssl certified all 127.0.0.1/32 cert
hostssl scram all 127.0.0.1/32 scram-sha-256
host tls_only,plain_only,certified,scram all 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
";

impl Tls {
    fn server() -> &'static Tls {
        static SERVER: OnceLock<Tls> = OnceLock::new();
        SERVER.get_or_init(Tls::start)
    }

    fn start() -> Tls {
        let server = Server::start_with(ServerOptions::default().tcp(true)).expect("a private Postgres starts");
        let dir = server.data_dir().join("certificates");
        fs::create_dir(&dir).unwrap();
        authority(&dir, "ca");
        authority(&dir, "other");
        certificate(&dir, "server", "/CN=localhost");
        certificate(&dir, "client", "/CN=postgres");
        fs::write(server.data_dir().join("pg_hba.conf"), HBA).unwrap();
        let owner = fs::metadata(server.data_dir()).unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        chown(&dir, Some(owner.uid()), Some(owner.gid())).unwrap();
        for (setting, name) in
            [("ssl_ca_file", "ca.crt"), ("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")]
        {
            let path = dir.join(name);
            server.execute("postgres", &format!("alter system set {setting} = '{}'", path.display())).unwrap();
        }
        server.execute("postgres", "alter system set ssl = on").unwrap();
        server.execute("postgres", "create role ada login superuser password 'hunter2'").unwrap();
        server.execute("postgres", "select pg_reload_conf()").unwrap();
        let deadline = std::time::Instant::now() + pm_tests::TIMEOUT;
        while server.execute("postgres", "show ssl").unwrap()[0][0].as_deref() != Some("on") {
            assert!(std::time::Instant::now() < deadline, "the server enables TLS: {}", server.log());
        }
        Tls { server, dir }
    }

    /// Creates a database, and returns a connection string for it at `host`.
    fn database(&self, name: &str, host: &str) -> String {
        // Another test of this process may have made it.
        drop(self.server.create_database(name));
        format!("host={host} port={} user=postgres dbname={name}", self.server.port())
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Returns whether the connections to a database are encrypted, which must be the same for all.
    fn is_encrypted(&self, database: &str) -> bool {
        let sql = format!(
            "select distinct ssl from pg_stat_ssl join pg_stat_activity using (pid)
             where datname = '{database}' and application_name = 'pm'"
        );
        let rows = self.server.execute("postgres", &sql).unwrap();
        assert_eq!(rows.len(), 1, "the same for all: {rows:?}");
        rows[0][0].as_deref() == Some("t")
    }
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let ran = Command::new("openssl").current_dir(dir).args(arguments).output().expect("openssl is installed");
    assert!(ran.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Creates a certificate that signs others.
fn authority(dir: &Path, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let subject = format!("/CN={name}");
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(dir, &[&request[..], &["-keyout", &key, "-out", &certificate, "-subj", &subject, "-days", "2"]].concat());
}

/// Creates a certificate signed by `ca`, for the name localhost.
fn certificate(dir: &Path, name: &str, subject: &str) {
    let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
    let make = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(dir, &[&make[..], &["-keyout", &key, "-out", &request, "-subj", subject]].concat());
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let sign =
        ["x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"];
    openssl(dir, &[&sign[..], &["-in", &request, "-out", &certificate]].concat());
}

/// Connects, and enqueues and commits a job, so that statements and the listener have their connections.
async fn works(driver: &str, text: &str) -> Queue {
    let queue = connect(driver, text, ConnectOptions::default()).await;
    let queue = queue.unwrap_or_else(|error| panic!("{driver}, {text}: {error}"));
    queue.create_queue(driver, false).await.unwrap();
    queue.enqueue(driver, 1u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>(driver);
    within("the commit", next(&mut jobs).await.into_parts().1.commit()).await.unwrap();
    queue
}

async fn refused(driver: &str, text: &str) -> String {
    connect(driver, text, ConnectOptions::default()).await.map(drop).expect_err(text).to_string()
}

#[tokio::test]
async fn connections_are_encrypted_when_the_mode_asks_for_it_and_the_server_supports_it() {
    let tls = Tls::server();
    for driver in DRIVERS {
        for (mode, encrypted) in [
            ("", true),
            ("sslmode=disable", false),
            ("sslmode=allow", false),
            ("sslmode=prefer", true),
            ("sslmode=require", true),
        ] {
            let name = format!("modes_{}", mode.replace('=', "_"));
            let text = format!("{} {mode}", tls.database(&name, "127.0.0.1"));
            let queue = works(driver, &text).await;
            assert_eq!(tls.is_encrypted(&name), encrypted, "{driver}, {mode:?}");
            queue.close().await;
        }
    }
}

#[tokio::test]
async fn allow_and_prefer_fall_back_to_what_the_server_requires() {
    let tls = Tls::server();
    for driver in DRIVERS {
        let queue = works(driver, &format!("{} sslmode=allow", tls.database("tls_only", "127.0.0.1"))).await;
        assert!(tls.is_encrypted("tls_only"), "{driver}");
        queue.close().await;
        let queue = works(driver, &format!("{} sslmode=prefer", tls.database("plain_only", "127.0.0.1"))).await;
        assert!(!tls.is_encrypted("plain_only"), "{driver}");
        queue.close().await;
        refused(driver, &format!("{} sslmode=disable", tls.database("tls_only", "127.0.0.1"))).await;
        refused(driver, &format!("{} sslmode=require", tls.database("plain_only", "127.0.0.1"))).await;
    }
}

#[tokio::test]
async fn a_server_without_tls_is_used_in_plain_text_unless_the_mode_forbids_it() {
    let server = Server::start_with(ServerOptions::default().tcp(true)).expect("a private Postgres starts");
    let url = server.tcp_url_of("postgres").unwrap();
    for driver in DRIVERS {
        works(driver, &url).await.close().await;
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = refused(driver, &format!("{url}?sslmode={mode}")).await;
            assert!(error.contains("sslmode=prefer"), "{driver}: {error}");
        }
        // A Unix socket needs no TLS.
        works(driver, &format!("{}?sslmode=require", server.url())).await.close().await;
    }
}

#[tokio::test]
async fn the_issuer_and_the_name_of_a_certificate_are_verified() {
    let tls = Tls::server();
    let (ca, other) = (tls.file("ca.crt"), tls.file("other.crt"));
    let (by_name, by_address) = (tls.database("verified", "localhost"), tls.database("verified", "127.0.0.1"));
    for driver in DRIVERS {
        for good in [
            format!("{by_name} sslmode=verify-full sslrootcert={ca}"),
            format!("{by_address} sslmode=verify-ca sslrootcert={ca}"),
            // As libpq: with a root, `require` verifies the issuer.
            format!("{by_address} sslmode=require sslrootcert={ca}"),
        ] {
            let queue = works(driver, &good).await;
            assert!(tls.is_encrypted("verified"), "{driver}, {good}");
            queue.close().await;
        }
        for (bad, advice) in [
            (format!("{by_address} sslmode=verify-full sslrootcert={ca}"), "sslmode=verify-ca"),
            (format!("{by_name} sslmode=verify-full sslrootcert={other}"), "sslrootcert"),
            (format!("{by_name} sslmode=verify-ca sslrootcert={other}"), "sslrootcert"),
            (format!("{by_name} sslmode=require sslrootcert={other}"), "sslrootcert"),
            (format!("{by_name} sslrootcert=system"), "sslrootcert"),
            (format!("{by_name} sslmode=verify-full sslrootcert=/nowhere.crt"), "/nowhere.crt"),
        ] {
            let error = refused(driver, &bad).await;
            assert!(error.contains(advice), "{driver}, {bad}: {error}");
        }
    }
    // The driver that passes host and address separately verifies the name.
    let port = tls.server.port();
    let apart =
        format!("host=localhost hostaddr=127.0.0.1 port={port} user=postgres dbname=verified sslmode=verify-full");
    works("tokio-postgres", &format!("{apart} sslrootcert={ca}")).await.close().await;
    let error = refused("sqlx", &format!("{apart} sslrootcert={ca}")).await;
    assert!(error.contains("hostaddr"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let tls = Tls::server();
    let text = tls.database("certified", "127.0.0.1");
    for driver in DRIVERS {
        let (certificate, key) = (tls.file("client.crt"), tls.file("client.key"));
        works(driver, &format!("{text} sslmode=require sslcert={certificate} sslkey={key}")).await.close().await;
        refused(driver, &format!("{text} sslmode=require")).await;
        let open = tls.dir.join("open.key");
        fs::copy(&key, &open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let error =
            refused(driver, &format!("{text} sslmode=require sslcert={certificate} sslkey={}", open.display())).await;
        assert!(error.contains("chmod 600"), "{driver}: {error}");
    }
}

#[tokio::test]
async fn a_password_is_bound_to_the_connection_where_the_driver_can() {
    let tls = Tls::server();
    let text = tls.database("scram", "127.0.0.1").replace("user=postgres", "user=ada password=hunter2");
    for driver in DRIVERS {
        works(driver, &format!("{text} sslmode=require")).await.close().await;
        let error = refused(driver, &format!("{} sslmode=require", text.replace("hunter2", "hunter3"))).await;
        assert!(error.contains("password authentication failed") && !error.contains("hunter3"), "{driver}: {error}");
    }
    works("tokio-postgres", &format!("{text} sslmode=require channel_binding=require")).await.close().await;
    let error = refused("sqlx", &format!("{text} sslmode=require channel_binding=require")).await;
    assert!(error.contains("channel_binding=require"), "{error}");
}

#[tokio::test]
async fn a_pooler_with_tls_is_used_like_a_server() {
    let tls = Tls::server();
    drop(tls.server.create_database("pooled"));
    // Poolers of other test processes have the same port on other addresses of the loopback.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = format!("127.{high}.{middle}.{}", low.max(2));
    let settings = [
        ("listen_addr", address.as_str()),
        ("client_tls_sslmode", "require"),
        ("client_tls_cert_file", &tls.file("server.crt")),
        ("client_tls_key_file", &tls.file("server.key")),
    ];
    let _pooler = Pooler::before_with(&tls.server.url_of("pooled"), &settings).expect("PgBouncer is installed");
    let ca = tls.file("ca.crt");
    for driver in DRIVERS {
        let text = format!("host={address} port=6432 user=postgres dbname=pooled sslmode=verify-ca sslrootcert={ca}");
        let queue = connect(driver, &text, ConnectOptions::default().pooler(true)).await;
        let queue = queue.unwrap_or_else(|error| panic!("{driver}: {error}"));
        queue.create_queue(driver, false).await.unwrap();
        queue.enqueue(driver, 1u64, EnqueueOptions::default()).await.unwrap();
        queue.close().await;
        let plain = text.replace("verify-ca", "disable");
        let error = connect(driver, &plain, ConnectOptions::default().pooler(true)).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("SSL"), "{driver}: {error}");
    }
}

//! `sslmode=require` means TLS, and a certificate that the system trusts.
//!
//! Trust is read once a process, from what `SSL_CERT_FILE` names: so each connection is made by a process of its own, `tests/src/bin/connect.rs`.

use pm_sandbox::{Server, ServerOptions};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with the certificates of two authorities, and one of a server signed by the first.
struct Papers(PathBuf);

impl Papers {
    fn new() -> Papers {
        let dir = std::env::temp_dir().join(format!("pm-tls-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let papers = Papers(dir);
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for name in ["ours", "theirs"] {
            papers.openssl(&format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.crt"));
        }
        papers.openssl(&format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"));
        fs::write(papers.0.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .unwrap();
        let sign = "x509 -req -in server.csr -CA ours.crt -CAkey ours.key -CAcreateserial -days 2 -extfile names";
        papers.openssl(&format!("{sign} -out server.crt"));
        papers
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.0).output();
        let output = output.expect("openssl is on this machine");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Gives the server its certificate and key, as its own files.
    fn install(&self, data_dir: &Path) {
        let owner = fs::metadata(data_dir).unwrap();
        for name in ["server.crt", "server.key"] {
            let file = data_dir.join(name);
            fs::copy(self.0.join(name), &file).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        // What stays behind is in the system's temporary directory.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Returns what a process on tokio says that trusts this authority.
fn connects(url: &str, trusted: &Path) -> String {
    connects_on("tokio", url, trusted)
}

fn connects_on(runtime: &str, url: &str, trusted: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_connect"))
        .args([url, "tasks", runtime])
        .env("SSL_CERT_FILE", trusted)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("it can be run");
    match output.status.success() {
        true => "works".to_owned(),
        false => String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn required_tls_works_with_a_trusted_certificate_and_refuses_any_other_clearly() {
    let papers = Papers::new();
    let mut server = Server::start_with(ServerOptions::default().tcp(true)).expect("a private Postgres starts");
    server.create_database("tls").unwrap();
    let plain = server.tcp_url_of("tls").unwrap();
    let (ours, theirs) = (papers.0.join("ours.crt"), papers.0.join("theirs.crt"));
    let require = format!("{plain}?sslmode=require");

    let without = connects(&require, &ours);
    assert!(without.starts_with("Unavailable") && without.contains("TLS"), "the server has no TLS yet: {without}");

    papers.install(server.data_dir());
    let log = "alter system set ssl = on; alter system set log_connections = on";
    for statement in log.split("; ") {
        server.execute("postgres", statement).unwrap();
    }
    server.restart().expect("it takes its certificate");
    assert_eq!(connects(&require, &ours), "works");
    assert!(server.log().contains("SSL enabled"), "it was encrypted: {}", server.log());

    let refused = connects(&require, &theirs);
    assert!(refused.starts_with("Unavailable") && refused.contains("certificate"), "{refused}");
    assert!(refused.contains("127.0.0.1") && !refused.contains("postgres://"), "it names the place: {refused}");

    let named = require.replace("127.0.0.1", "localhost");
    assert_eq!(connects(&named, &ours), "works", "by its name too");
    assert_eq!(connects(&plain, &theirs), "works", "without sslmode=require nothing is verified, nor encrypted");

    for url in [&require, &named] {
        assert_eq!(connects_on("smol", url, &ours), "works", "without tokio");
    }
    let refused = connects_on("smol", &require, &theirs);
    assert!(refused.starts_with("Unavailable") && refused.contains("certificate"), "{refused}");
}

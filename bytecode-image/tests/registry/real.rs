//! The same against the real `docker-registry`, with skopeo as the witness.

use std::path::Path;
use std::process::Command;

use bpfman_tests::{lanes, registry};
use bytecode_image::digest::Digest;
use bytecode_image::pull::PullPolicy;
use bytecode_image::reference::Reference;
use bytecode_image::registry::push::push_image;

use crate::images::{Parts, TestStore, index, reach};

fn skopeo(program: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn skopeo_reads_what_we_write_and_we_read_what_it_writes() {
    let Some(registry) = registry::Registry::start() else {
        return;
    };
    let Some(program) = lanes::tool("skopeo") else {
        return;
    };
    let mut arm64 = Parts::new("pass");
    arm64.architecture = "arm64".to_owned();
    let images = [Parts::new("pass").image(), arm64.image()];
    let list = index(&[("amd64", &images[0]), ("arm64", &images[1])]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (name, images, index) in [
        ("one", &images[..1], None),
        ("many", &images[..], Some(list)),
    ] {
        let name = format!("{}/acme/{name}:v1", registry.address());
        let reference: Reference = name.parse().unwrap();
        let expected = Digest::of(index.as_ref().unwrap_or(&images[0].manifest));
        for _ in 0..2 {
            let pushed = runtime.block_on(push_image(
                &reference,
                &reach(),
                images,
                index.clone(),
                None,
                &(),
            ));
            assert_eq!(pushed.unwrap(), expected);
        }
        let remote = format!("docker://{name}");
        let amd64 = ["--override-os", "linux", "--override-arch", "amd64"];
        let seen = skopeo(
            &program,
            &[&amd64[..], &["inspect", "--tls-verify=false", &remote]].concat(),
        );
        assert_eq!(seen["Digest"], expected.to_string());
        assert_eq!(seen["Labels"]["io.ebpf.programs"], r#"{"pass":"xdp"}"#);

        // Ours, read by skopeo.
        let ours = TestStore::new();
        let pulled = ours.pull(&reference, PullPolicy::IfNotPresent).unwrap();
        assert_eq!(pulled.digest, expected);
        ours.check();
        let local = format!("oci:{}:{name}", ours.store.dir().display());
        let seen = skopeo(&program, &[&amd64[..], &["inspect", &local]].concat());
        assert_eq!(seen["Architecture"], "amd64");
        assert_eq!(seen["Labels"]["io.ebpf.programs"], r#"{"pass":"xdp"}"#);

        // Skopeo's, read by us.
        let theirs = TestStore::new();
        let local = format!("oci:{}:{name}", theirs.store.dir().display());
        std::fs::create_dir(theirs.store.dir()).unwrap();
        skopeo(
            &program,
            &[
                &amd64[..],
                &["copy", "-q", "--src-tls-verify=false", &remote, &local],
            ]
            .concat(),
        );
        let kept = theirs.pull(&reference, PullPolicy::Never).unwrap();
        assert_eq!((kept.object, kept.labels), (pulled.object, pulled.labels));
        // And added to by us.
        theirs.pull(&reference, PullPolicy::Always).unwrap();
        assert!(theirs.pull(&reference, PullPolicy::Never).is_ok());
    }
}

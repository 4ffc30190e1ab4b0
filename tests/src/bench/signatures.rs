//! The cases of signatures: one checked by hand, and what an admission costs at a load.

use std::path::{Path, PathBuf};
use std::process::Command;

use bpfman_tests::lanes;
use bpfman_tests::objects::Object;
use bpfman_tests::registry::Registry;

use crate::cases::{Context, MOST_KIB, gone, unload};
use crate::measure::{Case, Contestant};

/// The name of the image that is signed.
const IMAGE: &str = "bench/signed:1";

/// An image in a registry, signed by the real cosign 2 with a key and no log.
struct Signed {
    registry: Registry,
    cosign: PathBuf,
    key: PathBuf,
}

fn signed(context: &Context, place: &str) -> Result<Signed, String> {
    let cosign = lanes::foreign_tool("cosign2").ok_or("no cosign")?;
    let registry = Registry::start().ok_or("no docker-registry")?;
    let object = Object::example("tracepoint-counter").ok_or("the example cannot be compiled")?;
    let folder = context.at(place);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let reference = registry.reference(IMAGE);
    let mut build = context.bpfman(
        place,
        &["image", "build", "--runtime", "builtin", "-t", &reference],
    );
    let pushed = done(build.args(["-b", object.arg()]))?;
    let by_cosign = |arguments: &[&str]| {
        let mut command = Command::new(&cosign);
        command
            .args(arguments)
            .current_dir(&folder)
            .env("HOME", &folder)
            .env("COSIGN_PASSWORD", "");
        done(&mut command)
    };
    by_cosign(&["generate-key-pair"])?;
    let pushed = pushed.lines().last().unwrap_or_default().to_owned();
    let how = ["--tlog-upload=false", "--allow-insecure-registry"];
    by_cosign(&[
        "sign",
        "--yes",
        "--key",
        "cosign.key",
        how[0],
        how[1],
        &pushed,
    ])?;
    Ok(Signed {
        registry,
        cosign,
        key: folder.join("cosign.pub"),
    })
}

fn done(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// `image verify --key` with nothing in the store, against `cosign verify --key`.
pub(crate) fn verify(context: &Context) -> Result<Case<'_>, String> {
    let Signed {
        registry,
        cosign,
        key,
    } = signed(context, "verify")?;
    let store = |round: usize| context.at("verify").join(format!("store-{round}"));
    let by_cosign = registry.reference(IMAGE);
    let home = context.at("verify");
    let ours = key.clone();
    Ok(Case {
        title: "a signature with a key, in a registry on loopback; an empty store".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: None,
        contestants: vec![
            Contestant {
                name: "bpfman image verify",
                most_times: None,
                prepare: Box::new(move |round| {
                    let image = registry.reference(IMAGE);
                    let mut command =
                        context.bpfman("verify", &["image", "verify", "-i", &image, "--key"]);
                    command.arg(&ours).env("BPFMAN_IMAGE_DIR", store(round));
                    command
                }),
                clear: Box::new(move |round, _| gone(&store(round))),
            },
            Contestant {
                name: "cosign verify",
                most_times: Some(1.0),
                prepare: Box::new(move |_| {
                    let mut command = Command::new(&cosign);
                    command
                        .args([
                            "verify",
                            "--insecure-ignore-tlog",
                            "--allow-insecure-registry",
                        ])
                        .arg("--key")
                        .arg(&key)
                        .arg(&by_cosign)
                        .env("HOME", &home);
                    command
                }),
                clear: Box::new(|_, _| {}),
            },
        ],
    })
}

/// `load image` of an admitted image under its policy, against the same with signatures switched off.
pub(crate) fn admitted(context: &Context) -> Result<Case<'_>, String> {
    if !lanes::root() {
        return Err("takes root".to_owned());
    }
    let signed = signed(context, "admitted")?;
    let image = signed.registry.reference(IMAGE);
    let write = |name: &str, text: String| -> Result<PathBuf, String> {
        let path = context.at("admitted").join(name);
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    };
    let policy = format!(
        "[[signing.policy]]\nscope = {:?}\nkeys = [{:?}]\n",
        signed.registry.address(),
        signed.key
    );
    let policy = write("policy.toml", policy)?;
    let off = write("off.toml", "[signing]\nverify_enabled = false\n".to_owned())?;
    // Fetched and admitted here: from now on nothing asks the registry.
    let mut pull = context.bpfman("admitted", &["image", "pull", "-i", &image]);
    done(pull.env("BPFMAN_CONFIG", &policy))?;
    let load = |config: &Path| {
        let (config, image) = (config.to_owned(), image.clone());
        move |_| {
            let program = "tracepoint:tracepoint_kill_recorder";
            let arguments = ["load", "image", "-i", &image, "--programs", program];
            let mut command = context.bpfman("admitted", &arguments);
            command.env("BPFMAN_CONFIG", &config);
            command
        }
    };
    let clear = || Box::new(|_: usize, output: &str| unload(context, "admitted", output));
    Ok(Case {
        title: "an image of the store, admitted before".to_owned(),
        most_kib: MOST_KIB,
        most_milliseconds: None,
        most_more_milliseconds: Some(1.0),
        contestants: vec![
            Contestant {
                name: "load image, proven",
                most_times: None,
                prepare: Box::new(load(&policy)),
                clear: clear(),
            },
            Contestant {
                name: "load image, unchecked",
                most_times: None,
                prepare: Box::new(load(&off)),
                clear: clear(),
            },
        ],
    })
}

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{makedev, mknodat};

use super::*;

/// A folder with one of everything that may lie where a file or a folder is expected.
fn one_of_each() -> (tempfile::TempDir, Vec<(&'static str, &'static str)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::create_dir(path.join("outside")).unwrap();
    fs::write(path.join("outside/file"), "precious").unwrap();
    let here = path.join("here");
    fs::create_dir(&here).unwrap();
    symlink(path.join("outside/file"), here.join("link-to-file")).unwrap();
    symlink(path.join("outside"), here.join("link-to-folder")).unwrap();
    symlink(path.join("outside/new"), here.join("link-to-nothing")).unwrap();
    let kind = FileType::Fifo;
    mknodat(CWD, here.join("fifo"), kind, Mode::RWXU, 0).unwrap();
    drop(UnixListener::bind(here.join("socket")).unwrap());
    let mut others = vec![
        ("link-to-file", "a symbolic link"),
        ("link-to-folder", "a symbolic link"),
        ("link-to-nothing", "a symbolic link"),
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
    ];
    // Only root makes devices, and not in every container.
    let kind = FileType::CharacterDevice;
    if mknodat(CWD, here.join("device"), kind, Mode::RWXU, makedev(1, 5)).is_ok() {
        others.push(("device", "a device"));
    }
    (dir, others)
}

fn refusal<T: fmt::Debug>(result: io::Result<T>) -> String {
    let error = result.unwrap_err();
    Unsafe::in_error(&error)
        .unwrap_or_else(|| panic!("{error}"))
        .to_string()
}

#[test]
fn only_files_and_folders_are_opened() {
    let (dir, others) = one_of_each();
    let folder = Folder::open(&dir.path().join("here")).unwrap();
    for (name, found) in others {
        let file = format!("expected a regular file, found {found}");
        assert_eq!(refusal(folder.file(name)), file, "{name}");
        assert_eq!(refusal(folder.read(name, 9)), file, "{name}");
        assert_eq!(refusal(folder.length(name)), file, "{name}");
        assert_eq!(refusal(folder.metadata(name)), file, "{name}");
        assert_eq!(refusal(folder.lock_file(name)), file, "{name}");
        let expected = format!("expected a folder, found {found}");
        assert_eq!(refusal(folder.folder(name)), expected, "{name}");
        assert_eq!(refusal(folder.make_folder(name)), expected, "{name}");
        assert!(folder.create(name).is_err(), "{name}");
    }
    fs::create_dir(dir.path().join("here/folder")).unwrap();
    assert_eq!(
        refusal(folder.file("folder")),
        "expected a regular file, found a folder"
    );
    assert_eq!(folder.files().unwrap(), Vec::<String>::new());
    assert_eq!(folder.folders().unwrap(), ["folder"]);
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
}

#[test]
fn links_themselves_are_renamed_and_removed() {
    let (dir, _) = one_of_each();
    let here = Folder::open(&dir.path().join("here")).unwrap();
    here.create("new").unwrap();
    here.rename("new", &here, "link-to-file").unwrap();
    here.rename("link-to-folder", &here, "moved").unwrap();
    here.remove("moved").unwrap();
    here.remove("link-to-nothing").unwrap();
    let outside = fs::read_to_string(dir.path().join("outside/file")).unwrap();
    assert_eq!(outside, "precious");
    assert_eq!(here.read("link-to-file", 0).unwrap().unwrap(), b"");
}

#[test]
fn files_are_read_up_to_their_cap() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    fs::write(dir.path().join("a"), "12345").unwrap();
    assert_eq!(folder.read("a", 5).unwrap().unwrap(), b"12345");
    let error = folder.read("a", 4).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(folder.length("a").unwrap(), Some(5));
    assert!(folder.read("b", 4).unwrap().is_none());
    assert!(folder.file("b").unwrap().is_none());
    assert!(folder.folder("b").unwrap().is_none());
    assert!(Folder::find(&dir.path().join("b")).unwrap().is_none());
}

#[test]
fn a_lock_file_has_one_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    folder.lock_file("lock").unwrap();
    folder.lock_file("lock").unwrap();
    fs::hard_link(dir.path().join("lock"), dir.path().join("other")).unwrap();
    assert_eq!(
        refusal(folder.lock_file("lock")),
        "it has 2 hard links: expected one"
    );
}

#[test]
fn folders_of_other_users_are_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    folder.check_owner().unwrap();
    let inner = folder.make_folder("inner").unwrap();
    inner.check_owner().unwrap();
    // Only root can give a folder away.
    if !geteuid().is_root() {
        return;
    }
    chown(inner.path(), Some(65_534), None).unwrap();
    let expected = "it belongs to user 65534: expected root";
    assert_eq!(refusal(inner.check_owner()), expected);
    assert_eq!(refusal(folder.make_folder("inner")), expected);
    assert!(folder.folder("inner").unwrap().is_some());
}

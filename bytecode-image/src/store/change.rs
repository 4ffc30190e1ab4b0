//! Changing `index.json` beside tools that know nothing of our lock.
//!
//! They read it, and some time later write it anew, by rename or in place. So the new index is exchanged with the old
//! one in a single step, and what comes out is compared with what the new one was made from: when it is something else
//! the exchange is taken back, and the change is made again from what is there now. A name that another tool wrote is
//! never lost by us. (One of ours is lost when another tool writes an index that it read before: nobody can help that.)

use std::io;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::folder::Folder;
use crate::limits::MAX_STORE_INDEX_BYTES;
use crate::store::index::{self, Index};
use crate::store::write::NewFile;
use crate::store::{INDEX, StoreAction, StoreError, Writer};

/// How often a change is made anew because another tool was faster: 100 times. Each takes that tool a commit.
const MAX_CHANGES: u32 = 100;

/// A new index beside the store's, on disk, and what it was made from.
#[derive(Debug)]
pub(super) struct NewIndex {
    /// `None`: there is nothing to change.
    pub(super) file: Option<NewFile>,
    index: Index,
    base: Option<Vec<u8>>,
}

impl Writer<'_> {
    /// Makes a change beside the index, which needs no lock; `change` says whether there is one.
    pub(super) fn prepare_index(
        &self,
        change: &mut dyn FnMut(&mut Index) -> Result<bool, StoreError>,
    ) -> Result<NewIndex, StoreError> {
        let (mut index, base) = index::read_bytes(Some(&self.folders().root))?;
        let changed = change(&mut index)?;
        let file = changed.then(|| self.index_file(&index)).transpose()?;
        Ok(NewIndex { file, index, base })
    }

    /// Puts a prepared index, whose file is on disk, into its place; where another one came before it, the change is made
    /// again. The caller holds the index's lock. Gives what is there then.
    pub(super) fn place_index(
        &self,
        prepared: NewIndex,
        change: &mut dyn FnMut(&mut Index) -> Result<bool, StoreError>,
    ) -> Result<Index, StoreError> {
        let root = &self.folders().root;
        let path = root.join(INDEX);
        let failed = |source| StoreError::io(StoreAction::Write, &path, source);
        let mut prepared = prepared;
        for _ in 0..MAX_CHANGES {
            let NewIndex { file, index, base } = prepared;
            let Some(file) = file else {
                return Ok(index);
            };
            if exchange(file, root, base.as_deref()).map_err(failed)? {
                return Ok(index);
            }
            log::debug!("another tool changed {}: once more", path.display());
            prepared = self.prepare_index(change)?;
            if let Some(file) = &prepared.file {
                file.sync().map_err(failed)?;
            }
        }
        Err(StoreError::Busy { path })
    }

    /// Changes the index; the caller holds its lock.
    pub(super) fn change_index(
        &self,
        mut change: impl FnMut(&mut Index) -> Result<bool, StoreError>,
    ) -> Result<Index, StoreError> {
        let prepared = self.prepare_index(&mut change)?;
        if let Some(file) = &prepared.file {
            let path = self.folders().root.join(INDEX);
            file.sync()
                .map_err(|source| StoreError::io(StoreAction::Write, &path, source))?;
        }
        let index = self.place_index(prepared, &mut change)?;
        self.sync_folders();
        Ok(index)
    }

    /// Waits until what was renamed has its name on disk too.
    ///
    /// A failure is only warned of: the change is made and every reader sees it, so that an error would call something
    /// undone that is done.
    pub(super) fn sync_folders(&self) {
        let folders = self.folders();
        for folder in [&folders.blobs, &folders.root] {
            if let Err(error) = folder.sync() {
                log::warn!(
                    "cannot flush {} to disk: {error}: the change is made, a crash of the host may undo it",
                    folder.path().display()
                );
            }
        }
    }
}

/// Gives the file the name of the index with the content `base`, or of none. `false`: another content is there by now,
/// and stays.
fn exchange(file: NewFile, root: &Folder, base: Option<&[u8]>) -> io::Result<bool> {
    // Seen here already, nobody gets to see ours in between.
    if root.read(INDEX, MAX_STORE_INDEX_BYTES)?.as_deref() != base {
        return Ok(false);
    }
    let (folder, name) = file.place_now();
    let Some(base) = base else {
        return match folder.rename_with(name, root, INDEX, RenameFlags::NOREPLACE) {
            Ok(()) => {
                file.placed();
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(error) if is_unknown(error) => rename(file, root),
            Err(error) => Err(error.into()),
        };
    };
    let swap = || folder.rename_with(name, root, INDEX, RenameFlags::EXCHANGE);
    match swap() {
        Ok(()) => {}
        // Somebody took it away.
        Err(Errno::NOENT) => return Ok(false),
        Err(error) if is_unknown(error) => return rename(file, root),
        Err(error) => return Err(error.into()),
    }
    // Whatever it is, it goes back when it is not what was there before.
    if matches!(folder.read(name, MAX_STORE_INDEX_BYTES), Ok(Some(found)) if found == base) {
        return Ok(true);
    }
    // One that is just being written in place is written on where it was.
    swap()?;
    Ok(false)
}

/// On a file system that cannot exchange files.
fn rename(file: NewFile, root: &Folder) -> io::Result<bool> {
    let (folder, name) = file.place_now();
    folder.rename(name, root, INDEX)?;
    file.placed();
    Ok(true)
}

fn is_unknown(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;
    use crate::digest::Digest;
    use crate::reference::Reference;
    use crate::store::{Named, Store};

    fn entry(name: &str) -> String {
        format!(
            r#"{{"mediaType":"m","digest":"{}","size":1,"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#,
            Digest::of(name.as_bytes())
        )
    }

    /// An index as another tool writes it, in its own form.
    fn foreign(names: &[&str]) -> String {
        let entries: Vec<_> = names.iter().map(|name| entry(name)).collect();
        format!(
            r#"{{ "schemaVersion": 2, "manifests": [ {} ] }}"#,
            entries.join(", ")
        )
    }

    fn names(store: &Store) -> Vec<String> {
        let mut names: Vec<_> = store
            .entries()
            .unwrap()
            .into_iter()
            .filter_map(|entry| entry.name)
            .collect();
        names.sort();
        names
    }

    fn add(index: &mut Index, reference: &Reference) -> bool {
        index.name(&Named {
            reference,
            media_type: "m",
            digest: Digest::of(b"ours"),
            size: 1,
            platform: None,
        })
    }

    /// Lets `between` happen after the index was read for the first time, and before ours is put into its place.
    fn change(before: Option<&str>, between: impl Fn(&Path)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        let writer = store.writer().unwrap();
        let path = store.dir().join(INDEX);
        if let Some(before) = before {
            fs::write(&path, before).unwrap();
        }
        let ours: Reference = "quay.io/ours:1".parse().unwrap();
        let mut calls = 0;
        let _lock = writer.lock_index().unwrap();
        let index = writer
            .change_index(|index| {
                calls += 1;
                if calls == 1 {
                    between(&path);
                }
                Ok(add(index, &ours))
            })
            .unwrap();
        assert_eq!(index.entries().len(), names(&store).len());
        let left = fs::read_dir(dir.path().join(".bpfman/tmp"))
            .unwrap()
            .count();
        assert_eq!(left, 0);
        names(&store)
    }

    #[test]
    fn what_another_tool_wrote_meanwhile_stays() {
        let (one, two) = ("quay.io/one:1", "quay.io/two:1");
        let ours = "quay.io/ours:1";
        let nothing = |_: &Path| {};
        assert_eq!(change(None, nothing), [ours]);
        assert_eq!(change(Some(&foreign(&[one])), nothing), [one, ours]);
        let in_place = |path: &Path| fs::write(path, foreign(&[one, two])).unwrap();
        assert_eq!(change(Some(&foreign(&[one])), in_place), [one, ours, two]);
        assert_eq!(change(None, in_place), [one, ours, two]);
        let renamed = |path: &Path| {
            let beside = path.with_extension("new");
            fs::write(&beside, foreign(&[two])).unwrap();
            fs::rename(beside, path).unwrap();
        };
        assert_eq!(change(Some(&foreign(&[one])), renamed), [ours, two]);
        let removed = |path: &Path| fs::remove_file(path).unwrap();
        assert_eq!(change(Some(&foreign(&[one])), removed), [ours]);
    }

    #[test]
    fn one_that_is_just_being_written_is_waited_for() {
        let (one, two) = ("quay.io/one:1", "quay.io/two:1");
        let threads = std::sync::Mutex::new(Vec::new());
        let half = |path: &Path| {
            let (path, whole) = (path.to_owned(), foreign(&[one, two]));
            // As an editor of files in place does it: emptied first, whole some time later.
            let mut file = File::create(&path).unwrap();
            threads.lock().unwrap().push(std::thread::spawn(move || {
                io::Write::write_all(&mut file, whole.as_bytes()).unwrap();
            }));
        };
        assert_eq!(
            change(Some(&foreign(&[one])), half),
            [one, "quay.io/ours:1", two]
        );
        for thread in threads.into_inner().unwrap() {
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_came_in_between_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        let writer = store.writer().unwrap();
        let path = store.dir().join(INDEX);
        let file = || writer.index_file(&Index::default()).unwrap();
        for (there, base) in [(None, Some("a")), (Some("b"), Some("a")), (Some("b"), None)] {
            let _ = fs::remove_file(&path);
            if let Some(there) = there {
                fs::write(&path, there).unwrap();
            }
            let root = &writer.folders().root;
            assert!(!exchange(file(), root, base.map(str::as_bytes)).unwrap());
            assert_eq!(
                root.read(INDEX, 9).unwrap(),
                there.map(|text| text.as_bytes().to_vec())
            );
        }
    }
}

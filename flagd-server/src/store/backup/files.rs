//! Files that get their name only when they are whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::BackupError;
use crate::store::redb::{folder_of, sync_folder};

fn refused(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}

pub(super) fn must_not_exist(path: &Path, advice: &'static str) -> Result<(), BackupError> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(BackupError::Exists { path: path.to_owned(), advice }),
        Err(source) => Err(BackupError::File { path: path.to_owned(), source }),
    }
}

/// A file that is being written; it is removed unless it is finished.
#[derive(Debug)]
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// A name of its own in the folder of the file that it is to become, so that it can be renamed to it.
    pub(super) fn beside(path: &Path) -> Result<Unfinished, BackupError> {
        let random =
            getrandom::u64().map_err(|error| refused(path)(std::io::Error::other(error.to_string())))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{random:016x}.part"));
        Ok(Unfinished(path.with_file_name(name)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the file its name, for good: its bytes and its name are on the disk afterwards.
    pub(super) fn finish(self, name: &Path) -> Result<(), BackupError> {
        File::open(&self.0).and_then(|file| file.sync_all()).map_err(refused(&self.0))?;
        must_not_exist(name, "it came into being meanwhile; name another file")?;
        rename(&self.0, name)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove; before it, what cannot be removed is named `.part`.
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::rename(from, to).map_err(refused(from))?;
    let folder = folder_of(to);
    sync_folder(folder).map_err(refused(folder))
}

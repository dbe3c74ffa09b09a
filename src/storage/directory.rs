//! The data directory: who may read it, and the lock that admits one process.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{Exposure, OpenError};

/// The database, inside the data directory.
pub(super) const DATABASE: &str = "stanzad.sqlite";
const LOCK: &str = "lock";

/// A data directory that belongs to this process alone while the value lives.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    /// Locked. The kernel frees the lock with the last descriptor, so also after a crash.
    lock: File,
}

impl DataDirectory {
    /// Creates the directory (0700) if it is missing, refuses it if others can get at what is in
    /// it, and takes its lock.
    pub(super) fn open(data: &Path) -> Result<DataDirectory, OpenError> {
        match DirBuilder::new().mode(0o700).create(data) {
            Ok(()) => sync_parent(data)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let what =
                    "cannot create the data directory (its parent must exist and be writable)";
                return Err(OpenError::io(what, data)(error));
            }
        }
        // Absolute, so that messages are clear and SQLite cannot take the name for a URI.
        let path = data
            .canonicalize()
            .map_err(OpenError::io("cannot find the data directory", data))?;
        let metadata = fs::metadata(&path).map_err(OpenError::io("cannot examine", &path))?;
        if !metadata.is_dir() {
            return Err(OpenError::NotADirectory(path));
        }
        let exposures = exposures(&path, rustix::process::geteuid().as_raw())?;
        if !exposures.is_empty() {
            return Err(OpenError::Unsafe(exposures));
        }
        let lock = lock(&path.join(LOCK))?;
        Ok(DataDirectory { path, lock })
    }

    /// The database's path, absolute.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

impl Drop for DataDirectory {
    /// A child process that is just being started holds a copy of the descriptor until it executes
    /// its program; unlocking frees the directory for all of them at once.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            log::warn!(error:%; "the data directory is unlocked by the end of the process only");
        }
    }
}

/// Makes an entry of `path`'s parent directory survive a power cut.
pub(super) fn sync_parent(path: &Path) -> Result<(), OpenError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(OpenError::io("cannot sync the directory", parent))
}

/// Creates a file that its owner alone can read, whatever the umask. An existing one is left as it
/// is.
pub(super) fn create_private(path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(OpenError::io("cannot open", path))?;
    Ok(file)
}

/// What keeps the owner of a data directory from starting a server on it.
///
/// # Errors
/// The directory is not there, or is none, or this user may not look at it.
pub fn examine(data: &Path) -> Result<Vec<Exposure>, OpenError> {
    let metadata = fs::metadata(data).map_err(OpenError::io("cannot examine", data))?;
    if !metadata.is_dir() {
        return Err(OpenError::NotADirectory(data.to_owned()));
    }
    exposures(data, metadata.uid())
}

/// All that is wrong with the directory and with stanzad's own files in it.
fn exposures(data: &Path, euid: u32) -> Result<Vec<Exposure>, OpenError> {
    let mut paths = vec![data.to_owned()];
    let entries = fs::read_dir(data).map_err(OpenError::io("cannot list", data))?;
    for entry in entries {
        let entry = entry.map_err(OpenError::io("cannot list", data))?;
        let name = entry.file_name();
        // Also the journals, and the copies that migrations leave.
        if name == LOCK || name.as_encoded_bytes().starts_with(DATABASE.as_bytes()) {
            paths.push(entry.path());
        }
    }
    // The directory comes first; below it by name, for messages that do not change.
    paths[1..].sort();
    exposed(paths, euid)
}

/// What is wrong with these files. One that is gone since it was listed is none: a server that ends
/// takes its journals away, a migration its copy that was not finished.
fn exposed(paths: Vec<PathBuf>, euid: u32) -> Result<Vec<Exposure>, OpenError> {
    let mut found = Vec::new();
    for path in paths {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_gone(&path) => continue,
            Err(error) => return Err(OpenError::io("cannot examine", &path)(error)),
        };
        let mode = metadata.permissions().mode() & 0o7777;
        let wanted = if metadata.is_dir() { "700" } else { "600" };
        if metadata.uid() != euid {
            found.push(Exposure {
                problem: format!(
                    "belongs to user {}, but stanzad runs as user {euid}",
                    metadata.uid()
                ),
                remedy: format!(
                    "chown {euid} {} (or run stanzad as user {})",
                    quote(&path),
                    metadata.uid()
                ),
                path: path.clone(),
            });
        }
        if mode & 0o077 != 0 {
            found.push(Exposure {
                problem: format!("has mode {mode:04o}, so that others can get at it"),
                remedy: format!("chmod {wanted} {}", quote(&path)),
                path,
            });
        }
    }
    Ok(found)
}

/// Whether there is nothing of this name, not even a link to what is not there.
fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut file = create_private(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Its holder may be just writing it: then there is no number to tell.
            let pid = match file.read_to_string(&mut text) {
                Ok(_) => text.trim().parse().ok(),
                Err(_) => None,
            };
            return Err(OpenError::AlreadyRunning {
                lock: path.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(OpenError::io("cannot lock", path)(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(OpenError::io("cannot write", path))?;
    Ok(file)
}

/// The path as one word of a shell command.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn an_inherited_descriptor_does_not_keep_the_lock() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let directory = DataDirectory::open(&data).unwrap();
        let _inherited = directory.lock.try_clone().unwrap();
        assert!(DataDirectory::open(&data).is_err());
        drop(directory);
        DataDirectory::open(&data).unwrap();
    }

    #[test]
    fn a_missing_directory_is_created_for_its_owner_alone() {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        let directory = DataDirectory::open(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join(LOCK)), 0o600);
        assert!(directory.database().is_absolute());
    }

    #[test]
    fn a_missing_parent_is_not_created() {
        let outer = tempfile::tempdir().unwrap();
        let error = DataDirectory::open(&outer.path().join("no/data")).unwrap_err();
        assert!(error.to_string().contains("parent"), "{error}");
        assert!(!outer.path().join("no").exists());
    }

    #[test]
    fn everything_that_others_can_read_is_named_with_its_chmod() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        for name in ["stanzad.sqlite", "stanzad.sqlite-wal", "lock", "unrelated"] {
            fs::write(data.join(name), "").unwrap();
            set_mode(&data.join(name), 0o640);
        }
        set_mode(data, 0o755);
        let error = DataDirectory::open(data).unwrap_err().to_string();
        let base = data.canonicalize().unwrap();
        let base = base.display();
        for command in [
            format!("chmod 700 {base}"),
            format!("chmod 600 {base}/stanzad.sqlite"),
            format!("chmod 600 {base}/stanzad.sqlite-wal"),
            format!("chmod 600 {base}/lock"),
        ] {
            assert!(error.contains(&command), "{command} is not in {error}");
        }
        assert!(!error.contains("unrelated"), "{error}");
        set_mode(data, 0o700);
        for name in ["stanzad.sqlite", "stanzad.sqlite-wal", "lock"] {
            set_mode(&data.join(name), 0o600);
        }
        DataDirectory::open(data).unwrap();
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused_with_its_chown() {
        let data = tempfile::tempdir().unwrap();
        set_mode(data.path(), 0o700);
        let owner = fs::metadata(data.path()).unwrap().uid();
        let found = exposures(data.path(), owner + 1).unwrap();
        assert_eq!(found.len(), 1);
        let chown = format!("chown {} {}", owner + 1, data.path().display());
        assert!(found[0].remedy.starts_with(&chown), "{}", found[0].remedy);
        assert!(exposures(data.path(), owner).unwrap().is_empty());
    }

    /// Between the listing and the look at a file another process may take it away.
    #[test]
    fn a_file_that_has_gone_meanwhile_is_no_problem_and_a_dangling_link_is_one() {
        let data = tempfile::tempdir().unwrap();
        let (gone, here) = (
            data.path().join("stanzad.sqlite-wal"),
            data.path().join(DATABASE),
        );
        fs::write(&here, "").unwrap();
        set_mode(&here, 0o644);
        let owner = fs::metadata(&here).unwrap().uid();
        let found = exposed(vec![gone.clone(), here.clone()], owner).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, here);
        std::os::unix::fs::symlink(data.path().join("nowhere"), &gone).unwrap();
        let error = exposed(vec![gone], owner).unwrap_err();
        assert!(error.to_string().contains("stanzad.sqlite-wal"), "{error}");
    }

    #[test]
    fn a_second_user_of_the_directory_is_told_who_the_first_is() {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        let first = DataDirectory::open(&data).unwrap();
        let error = DataDirectory::open(&data).unwrap_err();
        let own = std::process::id();
        assert!(
            matches!(error, OpenError::AlreadyRunning { pid: Some(pid), .. } if pid == own),
            "{error}"
        );
        drop(first);
        DataDirectory::open(&data).unwrap();
    }

    #[test]
    fn a_file_in_the_directorys_place_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        fs::write(&data, "").unwrap();
        assert!(matches!(
            DataDirectory::open(&data),
            Err(OpenError::NotADirectory(_))
        ));
    }

    #[test]
    fn a_path_with_spaces_is_quoted_for_the_shell() {
        assert_eq!(
            quote(Path::new("/var/lib/it's here")),
            r"'/var/lib/it'\''s here'"
        );
        assert_eq!(quote(Path::new("/var/lib/stanzad")), "/var/lib/stanzad");
    }
}

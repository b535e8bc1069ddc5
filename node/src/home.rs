//! The state folder: where keys, certificates, vaults and the node's store lie, and how they are written.
//!
//! ```text
//! strewn.toml                     settings
//! operator.key  node.key          secret keys, 0600
//! succession  operator.key.*      the line of keys that speak for the operator, one that is to, and earlier ones
//! node.cert                       the node's certificate
//! partners                        the operator's partners, by its signed word
//! vaults/NAME/{vault,device,secret}.key, vault.cert, device.cert, descriptor, roster, recovery, cache/
//! vaults/NAME/drill               when a recovery drill was last done here
//! vaults/NAME/served/             receipts that were given to nodes for what they did, by month
//! node/                           the shard store
//! run/listen                      where the running node listens, one address a line
//! roots/{aws,gcp,azure}/          keys by which documents of clouds are verified
//! requests/DEVICE.{key,age}       keys of requests to become a device of a vault, until they are accepted
//! ```

use crate::config::Overrides;
use protocol::sign::{SecretKey, Signed, Statement};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest file read as a whole from the state folder.
const FILE_LEN_MAX: u64 = 4 << 20;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read a secret.
    #[error("{path} can be read by others: run chmod 600 {path}")]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// A file is not what its name says.
    #[error("{path}: {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A vault's name cannot be one.
    #[error("{0:?} cannot be a vault's name: a-z, 0-9 and '-', 1 to 64 of them")]
    VaultName(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> HomeError + '_ {
    move |source| HomeError::Io { path: path.to_owned(), source }
}

/// 32 random bytes from the system.
pub fn random() -> Result<[u8; 32], HomeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| HomeError::Random(e.to_string()))?;
    Ok(seed)
}

/// The state folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    overrides: Overrides,
}

impl Home {
    /// The folder at this place; it need not be there yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, overrides: Overrides::default() }
    }

    /// With what the command line says instead of its settings.
    #[must_use]
    pub fn with_overrides(self, overrides: Overrides) -> Self {
        Self { overrides, ..self }
    }

    /// What the command line says instead of its settings.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        self.overrides
    }

    /// `--home`, else `$STREWN_HOME`, else `~/.strewn`.
    #[must_use]
    pub fn find(given: Option<PathBuf>) -> Self {
        let from_env = || std::env::var_os("STREWN_HOME").map(PathBuf::from);
        let default = || {
            let user = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
            user.join(".strewn")
        };
        Self::new(given.or_else(from_env).unwrap_or_else(default))
    }

    /// A file or folder in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder of a vault.
    pub fn vault(&self, name: &str) -> Result<PathBuf, HomeError> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if fits {
            Ok(self.dir.join("vaults").join(name))
        } else {
            Err(HomeError::VaultName(name.into()))
        }
    }

    /// The names of the vaults known here.
    pub fn vaults(&self) -> Result<Vec<String>, HomeError> {
        let dir = self.dir.join("vaults");
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io_error(&dir))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error(&dir))?;
            // Written last: without it the vault was not made.
            if entry.path().join("vault.cert").exists() {
                names.extend(entry.file_name().to_str().map(str::to_owned));
            }
        }
        names.sort();
        Ok(names)
    }
}

/// The folder of a file. (The parent of a bare name is the empty path, which cannot be opened.)
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file whole or not at all, and durably.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HomeError> {
    let dir = folder_of(path);
    // Caches tell what is backed up: that is nobody else's to read.
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error(dir))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.join(name);
    let write = || {
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error(path))
}

/// Reads a file of bounded length; `None` when it is not there.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io_error(path))?,
    };
    let mut bytes = Vec::new();
    // What has no length, such as a device, is not read without end either.
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(HomeError::Content { path: path.into(), what: "it is too long".into() });
    }
    Ok(Some(bytes))
}

/// Writes a file that somebody named and that is not there yet, whole or not at all.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HomeError> {
    if path.exists() {
        let what = "it is there already, and nothing is written over it: name another file".into();
        return Err(HomeError::Content { path: path.into(), what });
    }
    write_file(path, bytes, mode)
}

/// Writes 32 secret bytes as text that says what they are.
pub fn write_secret(path: &Path, what: &str, secret: &[u8; 32]) -> Result<(), HomeError> {
    let hex = Zeroizing::new(data_encoding::HEXLOWER.encode(secret));
    let text = Zeroizing::new(format!(
        "# Strewn: {what}. Whoever has this can act as it: keep it secret.\n{}\n",
        *hex
    ));
    write_file(path, text.as_bytes(), 0o600)
}

/// The inverse of [`write_secret`]; `None` when the file is not there.
pub fn read_secret(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, HomeError> {
    let Some(bytes) = read_file(path)?.map(Zeroizing::new) else { return Ok(None) };
    let meta = fs::metadata(path).map_err(io_error(path))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(HomeError::Open { path: path.into() });
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let hex = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let wrong = || HomeError::Content { path: path.into(), what: "it holds no key".into() };
    let secret =
        Zeroizing::new(data_encoding::HEXLOWER.decode(hex.trim().as_bytes()).map_err(|_| wrong())?);
    let secret: [u8; 32] = secret.as_slice().try_into().map_err(|_| wrong())?;
    Ok(Some(Zeroizing::new(secret)))
}

/// Reads a signing key; `None` when the file is not there.
pub fn read_key(path: &Path) -> Result<Option<SecretKey>, HomeError> {
    Ok(read_secret(path)?.map(|seed| SecretKey::from_seed(&seed)))
}

/// Makes a signing key and writes it.
pub fn create_key(path: &Path, what: &str) -> Result<SecretKey, HomeError> {
    let seed = Zeroizing::new(random()?);
    write_secret(path, what, &seed)?;
    Ok(SecretKey::from_seed(&seed))
}

/// Writes a signed statement.
pub fn write_signed<T: Statement>(path: &Path, signed: &Signed<T>) -> Result<(), HomeError> {
    write_file(path, &signed.to_bytes(), 0o644)
}

/// Reads a signed statement, not verified yet; `None` when the file is not there.
pub fn read_signed<T: Statement>(path: &Path) -> Result<Option<Signed<T>>, HomeError> {
    let Some(bytes) = read_file(path)? else { return Ok(None) };
    let signed = Signed::from_bytes(&bytes);
    signed.map(Some).map_err(|e| HomeError::Content { path: path.into(), what: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_this_folder() {
        assert_eq!(folder_of(Path::new("kit.html")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/kit.html")), Path::new("a"));
    }

    #[test]
    fn what_somebody_named_is_not_written_over_and_nothing_is_read_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("request");
        write_new(&file, b"one", 0o600).unwrap();
        assert!(write_new(&file, b"two", 0o600).is_err());
        assert_eq!(read_file(&file).unwrap().unwrap(), b"one");
        assert!(read_file(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn keys_are_read_as_written_and_refused_when_others_can_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        assert!(read_key(&path).unwrap().is_none());
        let key = create_key(&path, "the key of a node").unwrap();
        assert_eq!(read_key(&path).unwrap().unwrap().public(), key.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_key(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "# nothing\n").unwrap();
        assert!(matches!(read_key(&path), Err(HomeError::Content { .. })));
    }

    #[test]
    fn a_vaults_name_leads_nowhere_else() {
        let home = Home::new("/tmp/x".into());
        assert!(home.vault("work-2").is_ok());
        for wrong in ["", "..", "a/b", "A", "a.b"] {
            assert!(home.vault(wrong).is_err(), "{wrong}");
        }
    }
}

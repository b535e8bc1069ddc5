//! The packs that a repository has, as the base of a chain: opened all at once, read to be checked, and shown to Git where
//! no collection takes them away.
//!
//! A base is copied, not computed: that makes it as fast as a copy of the files, on the way out and on the way
//! back. It takes along what is unreachable in those packs; what is reachable and in none of them is in one pack more, the
//! *rest*, for which Git goes from the references through everything that they reach. So it is proved with every base that
//! nothing is missing.
//!
//! `git gc` may run meanwhile. What was open once is read to its end, whatever becomes of its name; Git finds it under
//! `/proc/PID/fd` (see [`Packs::show`]). Where that does not work the packs are not found there, and everything is in the rest.
//!
//! Not taken are packs of unreachable objects (`.mtimes` beside them), those that leave objects with a remote
//! (`.promisor`), those with names that Git does not give, and more than [`PACKS_MAX`]: the rest has what is needed of them.

use super::chain::{PACKS_MAX, Pack, is_hex, oid_len};
use crate::source::directory::{meta_of, stamp_of};
use data_encoding::HEXLOWER;
use protocol::item::{Meta, Stamp};
use rustix::fs::{OFlags, Stat, fstat};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, read_dir};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::Path;

/// How often the packs are listed when some vanish before they are open.
const TRIES: usize = 3;

/// Packs, open.
pub(super) struct Packs(pub(super) Vec<Open>);

/// One of them.
pub(super) struct Open {
    pub(super) pack: Pack,
    pub(super) idx: Checked,
    pub(super) data: Checked,
}

/// A file that ends with the hash of all before. Reading fails where that is not so, so that nobody takes it for whole.
pub(super) struct Checked {
    file: File,
    stat: Stat,
    size: u64,
    at: u64,
    hasher: Hasher,
    /// What it ends with.
    trailer: Vec<u8>,
}

enum Hasher {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Packs {
    /// Opens those below `objects`.
    pub(super) fn open(objects: &Path, object_format: &str) -> Self {
        let folder = objects.join("pack");
        let mut packs = Self(Vec::new());
        for _ in 0..TRIES {
            let mut is_whole = true;
            packs.0.clear();
            for name in names(&folder, object_format) {
                match Open::new(&folder, name, object_format) {
                    Ok(pack) => packs.0.push(pack),
                    // A collection has just put its objects elsewhere: another look finds them.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => is_whole = false,
                    // Git may be able to do more with it than this.
                    Err(_) => {}
                }
                if packs.0.len() > PACKS_MAX {
                    // Small ones cost little in the rest.
                    packs.0.sort_by_key(|open| std::cmp::Reverse(open.data.size));
                    packs.0.pop();
                }
            }
            if is_whole {
                break;
            }
        }
        packs.0.sort_by(|a, b| a.pack.name.cmp(&b.pack.name));
        packs
    }

    /// Makes them the packs of the repository at `objects`, for Git to read through what is open here.
    pub(super) fn show(&self, objects: &Path) -> io::Result<()> {
        let folder = objects.join("pack");
        let link = |file: &Checked, name: String| {
            let open = format!("/proc/{}/fd/{}", std::process::id(), file.file.as_raw_fd());
            symlink(open, folder.join(name))
        };
        self.0.iter().try_for_each(|open| {
            link(&open.data, open.pack.pack_name())?;
            link(&open.idx, open.pack.idx_name())
        })
    }
}

/// What is between `pack-` and `.idx` of the packs that can be part of a base.
fn names(folder: &Path, object_format: &str) -> Vec<String> {
    let entries = read_dir(folder).into_iter().flatten().flatten();
    let files: BTreeSet<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let digits = 2 * oid_len(object_format).unwrap_or(0);
    let name = |file: &String| {
        let stem = file.strip_suffix(".idx")?;
        let name = stem.strip_prefix("pack-").filter(|name| is_hex(name, digits))?;
        let is_other = |end| files.contains(&format!("{stem}{end}"));
        (!is_other(".mtimes") && !is_other(".promisor")).then(|| name.to_owned())
    };
    files.iter().filter_map(name).collect()
}

impl Open {
    fn new(folder: &Path, name: String, object_format: &str) -> io::Result<Self> {
        let mut pack = Pack { name, ..Pack::default() };
        let data = Checked::open(&folder.join(pack.pack_name()), object_format)?;
        let idx = Checked::open(&folder.join(pack.idx_name()), object_format)?;
        (pack.size, pack.idx_size) = (data.size, idx.size);
        pack.checksum = HEXLOWER.encode(&data.trailer);
        Ok(Self { pack, idx, data })
    }

    /// Whether the index says that it is of this pack.
    pub(super) fn check_pair(&self) -> io::Result<()> {
        let named = before_trailer(&self.idx.file, self.idx.size, self.idx.trailer.len())?;
        if named == self.data.trailer {
            Ok(())
        } else {
            Err(io::Error::other("it is the index of another pack"))
        }
    }
}

impl Checked {
    fn open(path: &Path, object_format: &str) -> io::Result<Self> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let stat = fstat(&file)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let size = file.metadata()?.len();
        let trailer = trailer(&file, size, oid_len(object_format).unwrap_or(0))?;
        let hasher = match object_format {
            "sha256" => Hasher::Sha256(Sha256::new()),
            _ => Hasher::Sha1(Sha1::new()),
        };
        Ok(Self { file, stat, size, at: 0, hasher, trailer })
    }

    /// The file's metadata, for an item at `path`.
    pub(super) fn meta(&self, path: &[u8]) -> (Meta, Stamp) {
        let mut meta = meta_of(path, &self.stat);
        meta.mode &= 0o666;
        (meta, stamp_of(&self.stat))
    }

    fn check(&mut self) -> io::Result<()> {
        let found = match &mut self.hasher {
            Hasher::Sha1(hasher) => hasher.finalize_reset().to_vec(),
            Hasher::Sha256(hasher) => hasher.finalize_reset().to_vec(),
        };
        if found == self.trailer {
            Ok(())
        } else {
            Err(io::Error::other("its content is not what the checksum at its end says"))
        }
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        if len == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buffer[..len], self.at)?;
        if n == 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        let body = self.size - self.trailer.len() as u64;
        let hashed = usize::try_from(body.saturating_sub(self.at)).unwrap_or(usize::MAX).min(n);
        match &mut self.hasher {
            Hasher::Sha1(hasher) => hasher.update(&buffer[..hashed]),
            Hasher::Sha256(hasher) => hasher.update(&buffer[..hashed]),
        }
        self.at += n as u64;
        if self.at == self.size {
            self.check()?;
        }
        Ok(n)
    }
}

/// The last bytes of a pack or an index: the hash of all before them.
pub(crate) fn trailer(file: &File, size: u64, len: usize) -> io::Result<Vec<u8>> {
    part(file, size, len, 1)
}

/// The bytes of an index before its trailer: that of its pack.
pub(crate) fn before_trailer(file: &File, size: u64, len: usize) -> io::Result<Vec<u8>> {
    part(file, size, len, 2)
}

fn part(file: &File, size: u64, len: usize, from_end: u64) -> io::Result<Vec<u8>> {
    let at = size.checked_sub(from_end * len as u64);
    let at = at.ok_or_else(|| io::Error::other("too short to be part of a repository"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(content: &[u8]) -> Vec<u8> {
        [content, &Sha1::digest(content)].concat()
    }

    #[test]
    fn the_largest_packs_are_taken_and_none_that_git_treats_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: String| dir.path().join("pack").join(name);
        std::fs::create_dir(dir.path().join("pack")).unwrap();
        let make = |stem: &str, len: usize| {
            let bytes = sealed(&vec![1; len]);
            std::fs::write(at(format!("{stem}.pack")), &bytes).unwrap();
            std::fs::write(at(format!("{stem}.idx")), sealed(&bytes[len..])).unwrap();
        };
        for i in 0..PACKS_MAX + 3 {
            make(&format!("pack-{:040x}", 7 * i % 103), 100 + i);
        }
        let large = 100_000;
        for (name, beside) in [("a", ".mtimes"), ("b", ".promisor")] {
            let stem = format!("pack-{}", name.repeat(40));
            make(&stem, large);
            std::fs::write(at(stem + beside), "").unwrap();
        }
        make("pack-odd", large);
        make(&format!("pack-{}", "c".repeat(64)), large);
        make(&format!("tmp-{}", "d".repeat(40)), large);
        let link = format!("pack-{}", "e".repeat(40));
        std::fs::write(dir.path().join("elsewhere"), sealed(b"secret")).unwrap();
        for end in ["pack", "idx"] {
            symlink(dir.path().join("elsewhere"), at(format!("{link}.{end}"))).unwrap();
        }
        std::fs::write(at(format!("pack-{}.idx", "f".repeat(40))), sealed(b"alone")).unwrap();
        let packs = Packs::open(dir.path(), "sha1").0;
        assert_eq!(packs.len(), PACKS_MAX);
        assert!(packs.iter().all(|open| (103..large as u64).contains(&(open.pack.size - 20))));
        assert!(packs.is_sorted_by(|a, b| a.pack.name < b.pack.name));
        assert!(packs.iter().all(|open| open.check_pair().is_ok()));
        assert!(Packs::open(&dir.path().join("none"), "sha1").0.is_empty());
    }

    #[test]
    fn what_is_not_as_it_was_written_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..1000_u16).flat_map(u16::to_le_bytes).collect();
        let read = |bytes: &[u8], format: &str| {
            std::fs::write(&path, bytes).unwrap();
            let mut found = Vec::new();
            Checked::open(&path, format)?.read_to_end(&mut found).map(|_| found)
        };
        let good = sealed(&content);
        assert_eq!(read(&good, "sha1").unwrap(), good);
        let wide = [&content[..], &Sha256::digest(&content)].concat();
        assert_eq!(read(&wide, "sha256").unwrap(), wide);
        assert!(read(&good, "sha256").is_err() && read(&wide, "sha1").is_err());
        for at in [0, 1, 999, content.len() - 1, content.len(), good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(&bad, "sha1").is_err(), "{at}");
        }
        assert!(read(&good[..good.len() - 1], "sha1").is_err() && read(b"short", "sha1").is_err());

        std::fs::write(&path, &good).unwrap();
        let mut open = Checked::open(&path, "sha1").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1500).unwrap();
        assert!(open.read_to_end(&mut Vec::new()).is_err(), "cut meanwhile");
    }
}

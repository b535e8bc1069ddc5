//! Compares what was restored with its source: refs and objects of a repository, or file by file.

use crate::cli::error::CliError;
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes compared at once.
const PIECE: usize = 1 << 20;

/// What a comparison found.
pub(super) struct Compared {
    pub(super) what: String,
    pub(super) differences: Vec<String>,
}

pub(super) fn compare(source: &Path, target: &Path) -> Result<Compared, CliError> {
    let is_git = git(target, &["rev-parse", "--git-dir"]).is_ok() && {
        target.join("HEAD").is_file() || target.join(".git").exists()
    };
    if is_git { repositories(source, target) } else { trees(source, target) }
}

fn git(dir: &Path, args: &[&str]) -> Result<Vec<u8>, CliError> {
    let mut command = Command::new("git");
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_"))
    {
        command.env_remove(name);
    }
    let run = command
        .args(["-c", "safe.directory=*"])
        .arg("-C")
        .arg(dir)
        .args(args)
        .env("LC_ALL", "C")
        .output()?;
    let said = [&run.stdout[..], &run.stderr[..]].concat();
    if run.status.success() {
        Ok(if args[0] == "fsck" { said } else { run.stdout })
    } else {
        Err(CliError::new(format!("git {}: {}", args[0], String::from_utf8_lossy(&said).trim())))
    }
}

fn repositories(source: &Path, target: &Path) -> Result<Compared, CliError> {
    let mut differences = Vec::new();
    let refs = git(source, &["for-each-ref"])?;
    if refs != git(target, &["for-each-ref"])? {
        differences.push("git for-each-ref differs".into());
    }
    let head = |dir| {
        git(dir, &["symbolic-ref", "-q", "HEAD"]).or_else(|_| git(dir, &["rev-parse", "HEAD"]))
    };
    if head(source)? != head(target)? {
        differences.push("HEAD differs".into());
    }
    let objects = |dir| -> Result<Vec<Vec<u8>>, CliError> {
        let list = git(dir, &["rev-list", "--objects", "--no-object-names", "--all"])?;
        let mut objects: Vec<Vec<u8>> = list.split(|&c| c == b'\n').map(<[u8]>::to_vec).collect();
        objects.sort();
        Ok(objects)
    };
    let (ours, theirs) = (objects(source)?, objects(target)?);
    if ours != theirs {
        differences.push(format!(
            "{} objects in the source, {} restored",
            ours.len(),
            theirs.len()
        ));
    }
    let fsck = |dir| git(dir, &["fsck", "--strict", "--full", "--no-dangling", "--no-progress"]);
    let said = fsck(target)?;
    // Of a repository without commits Git says so, of the source as of the copy.
    if !said.is_empty() && said != fsck(source)? {
        differences
            .push(format!("git fsck --strict --full: {}", String::from_utf8_lossy(&said).trim()));
    }
    let count = String::from_utf8_lossy(&refs).lines().count();
    let what = format!(
        "{count} refs and {} objects compared, git fsck --strict --full run",
        ours.iter().filter(|object| !object.is_empty()).count()
    );
    Ok(Compared { what, differences })
}

fn list(root: &Path) -> Result<BTreeMap<PathBuf, Metadata>, CliError> {
    let mut found = BTreeMap::from([(PathBuf::new(), fs::metadata(root)?)]);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                folders.push(path.clone());
            }
            if meta.is_dir() || meta.is_file() || meta.is_symlink() {
                let relative = path.strip_prefix(root).map_err(|e| CliError::new(e.to_string()))?;
                found.insert(relative.to_owned(), meta);
            }
        }
    }
    Ok(found)
}

fn trees(source: &Path, target: &Path) -> Result<Compared, CliError> {
    let (ours, theirs) = (list(source)?, list(target)?);
    let mut differences = Vec::new();
    let (mut files, mut bytes) = (0u64, 0u64);
    for (path, a) in &ours {
        let Some(b) = theirs.get(path) else {
            differences.push(format!("{} is missing", path.display()));
            continue;
        };
        let meta = |m: &Metadata| (m.mode(), m.uid(), m.gid());
        if meta(a) != meta(b) {
            differences.push(format!("{}: mode or owner differs", path.display()));
        }
        if (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec()) {
            differences.push(format!("{}: time differs", path.display()));
        }
        let (from, to) = (source.join(path), target.join(path));
        if a.is_symlink() && b.is_symlink() && fs::read_link(&from)? != fs::read_link(&to)? {
            differences.push(format!("{}: target differs", path.display()));
        }
        if a.is_file() && b.is_file() {
            files += 1;
            bytes += a.len();
            if a.len() != b.len() || !same(&from, &to)? {
                differences.push(format!("{}: content differs", path.display()));
            }
        }
    }
    for path in theirs.keys().filter(|path| !ours.contains_key(*path)) {
        differences.push(format!("{} was not in the source", path.display()));
    }
    let what = format!(
        "{files} files compared byte by byte ({}), modes, owners and times",
        crate::size::ByteSize(bytes)
    );
    Ok(Compared { what, differences })
}

fn same(a: &Path, b: &Path) -> Result<bool, CliError> {
    let (mut a, mut b) = (fs::File::open(a)?, fs::File::open(b)?);
    let (mut x, mut y) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let read = a.read(&mut x)?;
        if read == 0 {
            return Ok(b.read(&mut y)? == 0);
        }
        if b.read_exact(&mut y[..read]).is_err() || x[..read] != y[..read] {
            return Ok(false);
        }
    }
}

//! The chain of a repository in one backup: what is kept of it and, where the references reach further, one link more.

use super::base::{Checked, Packs};
use super::chain::{Base, Bundle, Chain, Link, REST_PATH, bundle_path};
use super::mirror::{Mirror, Stream};
use super::run::Run;
use crate::git::GitError;
use crate::source::{PreviousFile, SinkError, SourceError};
use std::collections::BTreeSet;
use std::io::Read;

/// What the references reach, and a chain does not hold.
struct Lacking<'a> {
    mirror: &'a Mirror<'a>,
    oids: &'a BTreeSet<&'a str>,
    /// The length of the chain that was looked at last, and what it lacks.
    last: Option<(usize, Option<Vec<String>>)>,
}

impl Lacking<'_> {
    /// `None` if that is nothing, else the objects that a bundle need not go beyond.
    fn of(&mut self, chain: &Chain) -> Result<Option<Vec<String>>, GitError> {
        let len = chain.len();
        match &self.last {
            Some((same, known)) if *same == len => Ok(known.clone()),
            _ => Ok(self.last.insert((len, self.look(chain)?)).1.clone()),
        }
    }

    fn look(&self, chain: &Chain) -> Result<Option<Vec<String>>, GitError> {
        let tips = chain.tips();
        if self.oids.iter().all(|oid| tips.contains(*oid)) {
            return Ok(None);
        }
        if tips.is_empty() {
            return Ok(Some(Vec::new()));
        }
        // After a forced push and a collection old objects may be gone; a bundle cannot exclude them.
        let known = self.mirror.present(&tips)?;
        let is_new = known.is_empty() || self.mirror.is_beyond(self.oids, &known)?;
        Ok(is_new.then_some(known))
    }
}

impl Run<'_> {
    /// Hands over the items of the chain, which was `chain` before.
    pub(super) fn objects(
        &mut self,
        mut chain: Chain,
        mirror: &Mirror<'_>,
        oids: &BTreeSet<&str>,
    ) -> Result<Chain, SourceError> {
        let repository = self.repository;
        let failed = |error| repository.failed(error);
        let mut lacking = Lacking { mirror, oids, last: None };
        if lacking.of(&chain).map_err(failed)?.is_some() {
            chain.truncate(chain.kept_len());
        }
        let mut kept = self.known(&mut chain)?;
        let base = chain.base.as_ref().map_or(0, |base| base.body.items().len());
        for file in kept.drain(..base) {
            let path = String::from_utf8_lossy(&file.meta.path.0).into_owned();
            if !self.keep(file)? {
                let what = format!("{path} was known, and is not any more; run it again");
                return Err(SourceError::Stopped(what));
            }
        }
        if chain.is_empty() && !oids.is_empty() {
            chain.base = self.new_base(mirror, oids)?;
        }
        self.directory("bundles")?;
        for (i, file) in kept.into_iter().enumerate() {
            if !self.keep(file)? {
                chain.bundles.truncate(i);
                break;
            }
        }
        if let Some(known) = lacking.of(&chain).map_err(failed)? {
            let mut stream = mirror.bundle(&known).map_err(failed)?;
            let path = bundle_path(chain.bundles.len());
            let body = self.stream(&path, &[], &mut stream)?;
            let tips = chain.tips();
            let tips = oids.iter().filter(|oid| !tips.contains(**oid)).map(ToString::to_string);
            chain.bundles.push(Link { body, tips: tips.collect() });
        }
        Ok(chain)
    }

    /// The items of the chain as the last snapshot has them. Where one is not known any more the chain ends before
    /// its link.
    fn known(&mut self, chain: &mut Chain) -> Result<Vec<PreviousFile>, SourceError> {
        let base = chain.base.as_ref().map(|base| base.body.items());
        let bundle = |(i, link): (usize, &Link)| vec![(bundle_path(i), link.body.size)];
        let bundles = chain.bundles.iter().enumerate().map(bundle);
        let links: Vec<_> = base.into_iter().chain(bundles).collect();
        let mut known = Vec::new();
        for (i, link) in links.into_iter().enumerate() {
            let before = known.len();
            for (path, size) in link {
                let path = self.at(&path);
                let file = self.previous.file(&path).filter(|file| file.size == size);
                match file {
                    Some(file) if self.sink.knows(&file).map_err(stopped)? => known.push(file),
                    _ => {
                        known.truncate(before);
                        chain.truncate(i);
                        return Ok(known);
                    }
                }
            }
        }
        Ok(known)
    }

    /// Lists an item of the last snapshot again.
    fn keep(&mut self, file: PreviousFile) -> Result<bool, SourceError> {
        let (meta, stamp) = (file.meta.clone(), file.stamp);
        self.directories_above(&meta.path.0)?;
        match self.sink.unchanged(meta, file, stamp) {
            Err(SinkError::Read(_)) => Ok(false),
            kept => kept.map_err(stopped),
        }
    }

    /// The packs that are there, and of what the references reach the rest; `None` where there are none.
    fn new_base(
        &mut self,
        mirror: &Mirror<'_>,
        oids: &BTreeSet<&str>,
    ) -> Result<Option<Link<Base>>, SourceError> {
        let repository = self.repository;
        let objects = repository.common_dir.join("objects");
        let mut packs = Packs::open(&objects, &repository.object_format);
        if packs.0.is_empty() {
            return Ok(None);
        }
        // Git goes through the objects while the packs are read.
        let rest = mirror.rest(oids, &packs);
        let mut rest = rest.map_err(|error| repository.failed(error))?;
        for open in &mut packs.0 {
            let damaged = |name, error| repository.damaged(name, error);
            open.check_pair().map_err(|error| damaged(open.pack.idx_name(), error))?;
            let (idx, pack) = (open.pack.idx_path(), open.pack.pack_path());
            self.checked(&idx, &mut open.idx, |error| damaged(open.pack.idx_name(), error))?;
            self.checked(&pack, &mut open.data, |error| damaged(open.pack.pack_name(), error))?;
        }
        let mut first = [0];
        let n = rest.read(&mut first).map_err(|error| self.lost(&mut rest, error))?;
        let rest = match n {
            0 => None,
            n => Some(self.stream(REST_PATH, &first[..n], &mut rest)?),
        };
        let packs = packs.0.into_iter().map(|open| open.pack).collect();
        let tips = oids.iter().map(ToString::to_string).collect();
        Ok(Some(Link { body: Base { packs, rest }, tips }))
    }

    /// Hands over a file of the repository as it is.
    fn checked(
        &mut self,
        path: &str,
        file: &mut Checked,
        damaged: impl Fn(std::io::Error) -> SourceError,
    ) -> Result<(), SourceError> {
        let path = self.at(path);
        self.directories_above(&path)?;
        let (meta, stamp) = file.meta(&path);
        match self.sink.file(meta, stamp, file) {
            Ok(_) => Ok(()),
            Err(SinkError::Read(error)) => Err(damaged(error)),
            Err(error) => Err(stopped(error)),
        }
    }

    /// Hands over what Git makes, after `first`, which was read of it already.
    fn stream(
        &mut self,
        path: &str,
        first: &[u8],
        stream: &mut Stream,
    ) -> Result<Bundle, SourceError> {
        let (meta, stamp) = self.synthetic(path, 0o644);
        self.directories_above(&meta.path.0)?;
        let size = match self.sink.file(meta, stamp, &mut first.chain(&mut *stream)) {
            Ok(size) => size,
            Err(SinkError::Read(error)) => return Err(self.lost(stream, error)),
            Err(error) => return Err(stopped(error)),
        };
        let hash = stream
            .hash()
            .ok_or_else(|| SourceError::Stopped(format!("{path}: it was not read to its end")))?;
        Ok(Bundle { size, hash })
    }

    /// What it means that a stream could not be read.
    fn lost(&self, stream: &mut Stream, error: std::io::Error) -> SourceError {
        self.repository.failed(stream.failure().unwrap_or(GitError::Io(error)))
    }
}

fn stopped(error: SinkError) -> SourceError {
    SourceError::Stopped(error.to_string())
}

//! One repository being put together.

use super::items::{Items, copy_file, make_above};
use super::{GitRestoreError, GitRestored, Result};
use crate::git::{Git, Input, Settings, failed, make_bare};
use crate::source::git::chain::{Description, Form, REST_PATH};
use crate::source::git::refs::{Head, Ref, Refs, oid};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Odd objects that are named one by one.
const ODD_NOTES_MAX: u64 = 20;

/// A repository being put together.
pub(super) struct Assembly<'a> {
    git: &'a Git,
    items: Items,
    /// Where the work tree is, or the repository itself.
    root: PathBuf,
    git_dir: PathBuf,
    description: Description,
    refs: Refs,
    /// Of the files `config` and `config.worktree`, without what they include.
    settings: [(&'static str, Settings); 2],
    notes: Vec<String>,
}

impl<'a> Assembly<'a> {
    /// Takes in what there is, to be made at `root`.
    pub(super) fn read(git: &'a Git, items: Items, root: &Path) -> Result<Self> {
        let description = items.description()?;
        let (head, list) = (items.head()?, items.refs()?);
        let git_dir = match description.form {
            Form::Bare | Form::Module => root.to_path_buf(),
            Form::WorkTree => root.join(".git"),
        };
        let (root, refs) = (root.to_path_buf(), Refs { head, list });
        let settings = [
            ("config", items.settings(git, "config")?),
            ("config.worktree", items.settings(git, "config.worktree")?),
        ];
        let notes = Vec::new();
        Ok(Self { git, items, root, git_dir, description, refs, settings, notes })
    }

    /// Makes it, and checks it: in full, or what did not come as it was.
    pub(super) fn run(mut self, in_full: bool) -> Result<GitRestored> {
        self.objects()?;
        self.write_refs()?;
        self.copy_logs()?;
        self.link_work_trees()?;
        if in_full {
            self.check_objects()?;
        }
        if self.description.form == Form::WorkTree {
            self.check_out()?;
        }
        let large_files = self.place_large_files()?;
        self.configure(large_files)?;
        self.copy_hooks()?;
        // At the end: a configuration can make git see another repository.
        self.check_refs()?;
        let mut restored = GitRestored {
            is_bare: self.description.form == Form::Bare,
            refs: self.refs.list.len() as u64,
            packs: self.description.base.as_ref().map_or(0, |base| base.packs.len() as u64),
            bundles: self.description.bundles.len() as u64,
            head: String::from_utf8_lossy(&self.refs.head.encode()).trim().to_owned(),
            notes: std::mem::take(&mut self.notes),
        };
        self.modules(&mut restored, in_full)?;
        Ok(restored)
    }

    /// The repositories of submodules. Their files are for `git submodule` to check out.
    fn modules(&self, restored: &mut GitRestored, in_full: bool) -> Result<()> {
        let modules = self.items.modules()?;
        for (path, items) in &modules {
            let root = self.git_dir.join("modules").join(path);
            make_above(&root)?;
            let module = Assembly::read(self.git, items.clone(), &root)?.run(in_full)?;
            restored.refs += module.refs;
            restored.packs += module.packs;
            restored.bundles += module.bundles;
            let notes = module.notes.into_iter();
            restored.notes.extend(notes.map(|note| format!("modules/{}: {note}", path.display())));
        }
        if !modules.is_empty() && self.description.form == Form::WorkTree {
            restored.notes.push(
                "submodules are restored, and their files not checked out: `git submodule update --recursive` does it"
                    .into(),
            );
        }
        Ok(())
    }

    /// Makes the repository, with all objects and nothing else; gives the folder of the objects.
    pub(super) fn objects(&self) -> Result<PathBuf> {
        self.init()?;
        let format = &self.description.object_format;
        if let Some(base) = &self.description.base {
            let folder = self.git_dir.join("objects/pack");
            for pack in &base.packs {
                self.items.place_pack(pack, &folder)?;
            }
            if let Some(rest) = &base.rest {
                self.index(self.items.whole(REST_PATH, rest)?, &[])?;
            }
        }
        for (i, bundle) in self.description.bundles.iter().enumerate() {
            self.index(self.items.bundle(i, bundle, format)?, &["--fix-thin"])?;
        }
        Ok(self.git_dir.join("objects"))
    }

    /// Takes in a pack: each object gets its name from its bytes, and what it links to must be there.
    fn index(&self, pack: File, how: &[&str]) -> Result<()> {
        let mut command = self.git.at(&self.git_dir);
        command.args(["index-pack", "--stdin", "--check-self-contained-and-connected"]).args(how);
        let answer = self.git.ask(&mut command, Input::File(pack))?;
        match answer.code {
            // One says that links lead out of it, to objects that are there.
            Some(0 | 1) => Ok(()),
            _ => Err(failed(&command, &answer).into()),
        }
    }

    fn init(&self) -> Result<()> {
        let format = &self.description.object_format;
        if !self.has_tables() {
            let at_target = |error| GitRestoreError::Target { path: self.git_dir.clone(), error };
            return make_bare(&self.git_dir, format).map_err(at_target);
        }
        let mut init = self.git.anywhere();
        init.args(["init", "--quiet", "--bare", "--template=", "--ref-format=reftable"])
            .arg(format!("--object-format={format}"));
        self.git.run(init.arg(&self.git_dir), Input::Nothing)?;
        Ok(())
    }

    /// Whether its references lie in tables, not in files.
    fn has_tables(&self) -> bool {
        self.setting("config", "extensions.refstorage") == Some(b"reftable")
    }

    /// A setting of the restored configuration.
    fn setting(&self, file: &str, key: &str) -> Option<&[u8]> {
        self.settings.iter().find(|(name, _)| *name == file)?.1.get(key)
    }

    fn write_refs(&self) -> Result<()> {
        let mut script = Vec::new();
        for r in self.refs.list.iter().filter(|r| r.symbolic.is_none()) {
            for part in [b"create ".as_slice(), &r.name, b"\0", r.oid.as_bytes(), b"\0"] {
                script.extend_from_slice(part);
            }
        }
        let mut command = self.git.at(&self.git_dir);
        command.args(["update-ref", "-z", "--stdin"]);
        self.git.run(&mut command, Input::Bytes(&script))?;
        for r in &self.refs.list {
            if let Some(target) = &r.symbolic {
                self.point(&r.name, target)?;
            }
        }
        match &self.refs.head {
            // Git has just taken this name for good.
            Head::Symbolic(target) if self.refs.oid_of(target).is_some() && !self.has_tables() => {
                let path = self.git_dir.join("HEAD");
                fs::write(&path, self.refs.head.encode())
                    .map_err(|error| GitRestoreError::Target { path, error })?;
            }
            Head::Symbolic(target) => self.point(b"HEAD", target)?,
            Head::Detached(oid) => {
                let mut command = self.git.at(&self.git_dir);
                command.args(["update-ref", "--no-deref", "HEAD", oid.as_str()]);
                self.git.run(&mut command, Input::Nothing)?;
            }
        }
        let mut command = self.git.at(&self.git_dir);
        self.git.run(command.args(["pack-refs", "--all"]), Input::Nothing)?;
        Ok(())
    }

    fn point(&self, name: &[u8], target: &[u8]) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let os = std::ffi::OsStr::from_bytes;
        let mut command = self.git.at(&self.git_dir);
        command.arg("symbolic-ref").arg(os(name)).arg(os(target));
        self.git.run(&mut command, Input::Nothing)?;
        Ok(())
    }

    /// Every pack, every object and every link once more. What git finds odd in the form of an object was so in the source
    /// too (the hash says so) and is noted; anything else is damage.
    fn check_objects(&mut self) -> Result<()> {
        let mut command = self.git.at(&self.git_dir);
        // Neither is there, and to look for it takes a process each.
        command.args(["-c", "core.commitGraph=false", "-c", "core.multiPackIndex=false"]);
        command.args(["fsck", "--no-dangling", "--no-progress", "--strict", "--full"]);
        let answer = self.git.ask(&mut command, Input::Nothing)?;
        let said = String::from_utf8_lossy(&answer.stdout);
        let mut odd = 0;
        for line in said.lines().chain(answer.stderr.lines()) {
            if line.starts_with("error in ") || line.starts_with("warning in ") {
                odd += 1;
                if odd <= ODD_NOTES_MAX {
                    self.notes.push(line.to_owned());
                }
            } else if !line.starts_with("notice: ") {
                return Err(GitRestoreError::Damaged(line.to_owned()));
            }
        }
        if odd > ODD_NOTES_MAX {
            self.notes.push(format!("{} more like these", odd - ODD_NOTES_MAX));
        }
        // Odd objects set the bits for errors in objects (1) and in packs (4).
        match answer.code {
            Some(0) => Ok(()),
            Some(code) if odd > 0 && code & !5 == 0 => Ok(()),
            code => Err(GitRestoreError::Damaged(format!("git fsck ended with {code:?}"))),
        }
    }

    fn check_refs(&self) -> Result<()> {
        let (found, remarks) =
            Refs::capture(self.git, &self.git_dir, || self.git.at(&self.git_dir))?;
        if let Some(line) = remarks.broken.first() {
            return Err(GitRestoreError::Damaged(line.clone()));
        }
        if found.head != self.refs.head {
            let first = format!("HEAD is {:?}, not {:?}", found.head, self.refs.head);
            return Err(GitRestoreError::Refs { count: 1, first });
        }
        let mut differences = differences(&self.refs.list, &found.list);
        let Some(first) = differences.next() else { return Ok(()) };
        Err(GitRestoreError::Refs { count: 1 + differences.count() as u64, first })
    }

    fn check_out(&mut self) -> Result<()> {
        if self.refs.tip().is_none() {
            return Ok(());
        }
        let mut work_tree = std::ffi::OsString::from("--work-tree=");
        work_tree.push(&self.root);
        let mut command = self.git.at(&self.git_dir);
        command.arg(work_tree).current_dir(&self.root).args(["read-tree", "--reset", "-u", "HEAD"]);
        self.git.run(&mut command, Input::Nothing)?;
        Ok(())
    }

    /// Reflogs, with the older entries of the stash.
    fn copy_logs(&self) -> Result<()> {
        for path in self.items.files("logs")? {
            if path == Path::new("HEAD") || path.starts_with("refs") {
                let to = self.git_dir.join("logs").join(&path);
                make_above(&to)?;
                self.items.copy(Path::new("logs").join(&path), &to)?;
            }
        }
        Ok(())
    }

    /// Linked work trees, as if their files had been there all the time: where they are, Git finds them again.
    fn link_work_trees(&mut self) -> Result<()> {
        for entry in self.items.list("worktrees")? {
            let id = Path::new("worktrees").join(entry.file_name());
            if self.items.open(id.join("HEAD"))?.is_none() {
                continue;
            }
            let malformed = |path: &Path| {
                let (item, reason) = (self.items.name(path), "not what Git writes there".into());
                GitRestoreError::Malformed { item, reason }
            };
            let head = Head::decode(&self.items.text(id.join("HEAD"))?)
                .ok_or_else(|| malformed(&id.join("HEAD")))?;
            let git_dir = self.git_dir.join(&id);
            let commondir = git_dir.join("commondir");
            make_above(&commondir)?;
            fs::write(&commondir, "../..\n")
                .map_err(|error| GitRestoreError::Target { path: commondir.clone(), error })?;
            for name in ["HEAD", "config.worktree", "gitdir", "locked"] {
                self.items.copy(id.join(name), &git_dir.join(name))?;
            }
            for folder in ["logs", "refs"] {
                for path in self.items.files(&id.join(folder).to_string_lossy())? {
                    let path = id.join(folder).join(path);
                    let is_ref = |text: &[u8]| text.strip_suffix(b"\n").and_then(oid).is_some();
                    if folder == "refs" && !is_ref(&self.items.text(&path)?) {
                        return Err(malformed(&path));
                    }
                    make_above(&self.git_dir.join(&path))?;
                    self.items.copy(&path, &self.git_dir.join(&path))?;
                }
            }
            let tip = match &head {
                Head::Detached(oid) => Some(oid.as_str()),
                Head::Symbolic(target) => self.refs.oid_of(target),
            };
            if let Some(tip) = tip {
                let mut command = self.git.at(&git_dir);
                self.git.run(command.args(["read-tree", tip]), Input::Nothing)?;
            }
            self.notes.push(format!(
                "{} is a linked work tree elsewhere, whose files are not part of a backup: \
                 where they are gone, `git worktree prune` and `git worktree add` make it anew",
                id.display()
            ));
        }
        Ok(())
    }

    /// The objects of Git LFS; gives their number.
    fn place_large_files(&mut self) -> Result<u64> {
        let store = self.git_dir.join("lfs/objects");
        let (count, notes) = self.items.large_files(|path, from| {
            let to = store.join(path);
            make_above(&to)?;
            self.items.link_or_copy(Path::new("lfs/objects").join(path), from, &to)
        })?;
        self.notes.extend(notes);
        Ok(count)
    }

    /// The configuration as it was, except for where the repository and what belongs to it lie.
    fn configure(&mut self, large_files: u64) -> Result<()> {
        let form = self.description.form;
        self.items.copy("config", &self.git_dir.join("config"))?;
        self.items.copy("config.worktree", &self.git_dir.join("config.worktree"))?;
        let is_bare = if form == Form::Bare { "true" } else { "false" };
        let [(_, config), (_, of_work_tree)] = &self.settings;
        if config.count("core.bare") != 1 || config.get("core.bare") != Some(is_bare.as_bytes()) {
            self.set("config", &["--replace-all", "core.bare", is_bare])?;
        }
        for (file, settings) in &self.settings {
            if settings.get("core.worktree").is_none() {
                continue;
            }
            self.set(file, &["--unset-all", "core.worktree"])?;
            // Of a submodule `git submodule update` sets it again.
            if form != Form::Module {
                self.notes.push(
                    "core.worktree was left out: it named the place of the old work tree".into(),
                );
            }
        }
        if of_work_tree.get("core.bare").is_some() {
            self.set("config.worktree", &["--replace-all", "core.bare", is_bare])?;
        }
        if config.get("lfs.storage").is_some() {
            self.set("config", &["--unset-all", "lfs.storage"])?;
            self.notes.push("lfs.storage was left out: large files are in lfs/objects".into());
        }
        if form == Form::WorkTree && large_files > 0 {
            self.notes.push(format!(
                "{large_files} large files (LFS) are restored; `git lfs checkout` puts those of the work tree in place"
            ));
        } else if form == Form::WorkTree && config.get("filter.lfs.smudge").is_some() {
            self.notes.push(
                "filters were not run; `git lfs pull` fetches the content of large files".into(),
            );
        }
        self.items.copy("description", &self.git_dir.join("description"))?;
        let info = self.git_dir.join("info");
        make_above(&info.join("exclude"))?;
        for name in ["attributes", "exclude", "grafts", "sparse-checkout"] {
            self.items.copy(Path::new("info").join(name), &info.join(name))?;
        }
        Ok(())
    }

    fn set(&self, file: &str, change: &[&str]) -> Result<()> {
        let mut command = self.git.anywhere();
        command.args(["config", "--file"]).arg(self.git_dir.join(file));
        self.git.run(command.args(change), Input::Nothing)?;
        Ok(())
    }

    fn copy_hooks(&self) -> Result<()> {
        let hooks = self.git_dir.join("hooks");
        make_above(&hooks.join("x"))?;
        for entry in self.items.list("hooks")? {
            let fail = |error| GitRestoreError::Item { item: self.items.name("hooks"), error };
            let to = hooks.join(entry.file_name());
            let kind = entry.file_type().map_err(fail)?;
            if kind.is_symlink() {
                let link = fs::read_link(entry.path()).map_err(fail)?;
                std::os::unix::fs::symlink(link, &to)
                    .map_err(|error| GitRestoreError::Target { path: to.clone(), error })?;
            } else if kind.is_file() {
                copy_file(&mut File::open(entry.path()).map_err(fail)?, &to)?;
            }
        }
        Ok(())
    }
}

/// In words, what of `wanted` is otherwise in `found`. Both are sorted by name.
fn differences<'a>(wanted: &'a [Ref], found: &'a [Ref]) -> impl Iterator<Item = String> + 'a {
    let at = |list: &'a [Ref], name: &[u8]| {
        list.binary_search_by(|r| r.name.as_slice().cmp(name)).ok().map(|i| &list[i])
    };
    let show = |r: &Ref| String::from_utf8_lossy(&r.name).into_owned();
    let changed = wanted.iter().filter_map(move |r| match at(found, &r.name) {
        None => Some(format!("{} is missing", show(r))),
        Some(other) if other == r => None,
        Some(other) => Some(format!("{} is {}, not {}", show(r), other.oid, r.oid)),
    });
    let added = found
        .iter()
        .filter(move |r| at(wanted, &r.name).is_none())
        .map(move |r| format!("{} is not in the snapshot", show(r)));
    changed.chain(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_in_words() {
        let r = |name: &str, id: &str| Ref { oid: id.into(), name: name.into(), symbolic: None };
        let wanted = [r("refs/a", "1"), r("refs/b", "2"), r("refs/c", "3")];
        let found = [r("refs/b", "4"), r("refs/c", "3"), r("refs/d", "5")];
        let told: Vec<String> = differences(&wanted, &found).collect();
        assert_eq!(
            told,
            ["refs/a is missing", "refs/b is 4, not 2", "refs/d is not in the snapshot"]
        );
    }
}

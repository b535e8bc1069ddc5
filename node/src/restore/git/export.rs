//! The items of a repository as they are, with a page that says how to use them with Git alone. Where its chain begins with
//! packs, everything becomes one bundle first.

use super::assembly::Assembly;
use super::items::Items;
use super::{GitRestoreError, GitRestored, Result, free};
use crate::git::{Git, GitError};
use crate::source::git::chain::{Bundle, Description, Form, bundle_path};
use crate::source::git::kept::Kept;
use crate::source::git::mirror::Mirror;
use crate::source::git::refs::Refs;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The page's name.
const PAGE: &str = "README.txt";

/// Checks the items that lie in `staging`, and moves them to `target`, which must not exist or be empty.
pub fn export(staging: &Path, target: &Path) -> Result<GitRestored> {
    let at_target = |error| GitRestoreError::Target { path: target.into(), error };
    let target = free(target)?;
    let beside = tempfile::Builder::new()
        .prefix(".strewn-partial-")
        .tempdir_in(staging.parent().unwrap_or(staging))
        .map_err(at_target)?;
    bundle(&Git::find()?, &Items::all(staging), &beside.path().join("repository"))?;
    let restored = check(&Items::all(staging))?;
    let mut page = File::create(staging.join(PAGE)).map_err(at_target)?;
    page.write_all(page_of(&Items::all(staging))?.as_bytes()).map_err(at_target)?;
    rustix::fs::syncfs(&page).map_err(|error| at_target(error.into()))?;
    fs::rename(staging, &target).map_err(at_target)?;
    Ok(restored)
}

/// Makes one bundle of what begins with packs, by way of a repository at `root`; submodules' too.
fn bundle(git: &Git, items: &Items, root: &Path) -> Result<()> {
    let description = items.description()?;
    if description.base.is_some() {
        let objects = Assembly::read(git, items.clone(), root)?.objects()?;
        let (folder, path) = (items.folder(), bundle_path(0));
        let at_items = |error| GitRestoreError::Item { item: items.name(&path), error };
        for old in ["base", "bundles"] {
            match fs::remove_dir_all(folder.join(old)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at_items(error));
                }
                _ => {}
            }
        }
        fs::create_dir(folder.join("bundles")).map_err(at_items)?;
        let mut file = File::create_new(folder.join(&path)).map_err(at_items)?;
        let whole = write_bundle(git, items, &description, &objects, &mut file)?;
        let plain = Description { base: None, bundles: vec![whole], ..description };
        fs::write(folder.join("format"), plain.encode()).map_err(at_items)?;
        fs::remove_dir_all(root).map_err(at_items)?;
    }
    items.modules()?.iter().try_for_each(|(_, module)| bundle(git, module, root))
}

/// Writes everything that the references, reflogs and linked work trees reach.
fn write_bundle(
    git: &Git,
    items: &Items,
    description: &Description,
    objects: &Path,
    file: &mut File,
) -> Result<Bundle> {
    let refs = Refs { head: items.head()?, list: items.refs()? };
    let mut mirror = Mirror::new(git, objects, &description.object_format);
    let texts = |folder: &str| -> Result<Vec<_>> {
        let text = |path| {
            let path = Path::new(folder).join(path);
            Ok((path.as_os_str().as_encoded_bytes().to_vec(), items.text(&path)?))
        };
        items.files(folder)?.into_iter().map(text).collect()
    };
    let named = Kept { logs: texts("logs")?, worktrees: texts("worktrees")? }.oids();
    let oids = refs.oids();
    let further: BTreeSet<String> =
        named.into_iter().filter(|oid| !oids.contains(oid.as_str())).collect();
    mirror.point(&refs, &mirror.beyond(&further, &oids)?)?;
    let mut stream = mirror.bundle(&[])?;
    match io::copy(&mut stream, file) {
        Ok(size) => {
            let cut = || GitError::Io(io::ErrorKind::UnexpectedEof.into());
            Ok(Bundle { size, hash: stream.hash().ok_or_else(cut)? })
        }
        Err(error) => Err(stream.failure().unwrap_or(GitError::Io(error)).into()),
    }
}

/// Every bundle and every large file against its name, those of submodules included.
fn check(items: &Items) -> Result<GitRestored> {
    let description = items.description()?;
    let (head, refs) = (items.head()?, items.refs()?);
    for (i, bundle) in description.bundles.iter().enumerate() {
        drop(items.bundle(i, bundle, &description.object_format)?);
    }
    let (_, notes) = items.large_files(|_, _| Ok(()))?;
    let mut all = GitRestored {
        is_bare: description.form == Form::Bare,
        refs: refs.len() as u64,
        packs: 0,
        bundles: description.bundles.len() as u64,
        head: String::from_utf8_lossy(&head.encode()).trim().to_owned(),
        notes,
    };
    for (_, module) in items.modules()? {
        let module = check(&module)?;
        all.refs += module.refs;
        all.bundles += module.bundles;
        all.notes.extend(module.notes);
    }
    Ok(all)
}

/// How to use them. The indented lines are commands that a shell can take as they stand.
fn page_of(items: &Items) -> Result<String> {
    let description = items.description()?;
    let refs = items.refs()?;
    let mut aside = "refs/unbundled".to_owned();
    while refs.iter().any(|r| r.name.starts_with(aside.as_bytes())) {
        aside.push('-');
    }
    let format = &description.object_format;
    let fetch = if description.bundles.is_empty() {
        "The repository is empty: there are no bundles.\n".to_owned()
    } else {
        format!(
            "\
Fetch the bundles in order, each to names of its own, for a bundle names only what is new in it:

    for bundle in bundles/*.bundle; do
        git -C repository.git -c gc.auto=0 fetch --quiet --no-tags \"$PWD/$bundle\" \"+refs/*:{aside}/$(basename \"$bundle\" .bundle)/*\"
    done
"
        )
    };
    Ok(format!(
        "\
A Git repository as plain files. Strewn is not needed to use them: Git and a shell are enough.

  bundles/        the objects, as Git bundles: each has what those before it do not have
  refs            the references as they were, one a line: object, name
  symrefs         those of them that stand for another: name, target
  HEAD            what HEAD said
  format          the size and the BLAKE3 hash of every bundle
  config, description, hooks/, info/    as they were
  logs/           reflogs; the older entries of the stash are in logs/refs/stash
  lfs/objects/    large files (Git LFS), each named by its SHA-256
  modules/NAME/   the repository of a submodule, in the same way
  worktrees/ID/   a linked work tree: what its HEAD said, and where it was

What the repository had nothing of is not here. To have the repository again, run this in this folder.

    git init --quiet --bare --template= --object-format={format} repository.git

{fetch}
Set the references, and remove those other names:

    sed 's/^\\([0-9a-f]*\\) \\(.*\\)$/create \\2 \\1/' refs | git -C repository.git update-ref --stdin
    while read -r name target; do git -C repository.git symbolic-ref \"$name\" \"$target\"; done < symrefs
    cp HEAD repository.git/HEAD
    git -C repository.git for-each-ref --format='delete %(refname)' {aside} | git -C repository.git update-ref --stdin

Add what is no object, and check:

    for part in description hooks info lfs logs; do
        if [ -e \"$part\" ]; then cp -R \"$part\" repository.git/; fi
    done
    git -C repository.git fsck --full --strict --no-dangling --no-progress

Look through `config` before you use any of it: it can name programs that Git runs. `git clone repository.git NAME`
makes a work tree.
"
    ))
}

//! Git repositories, in Git's terms.

use super::{all, backup, look, six};
use harness::{git, repository, write};

#[test]
fn a_repository_is_shown_by_its_references_and_compared_by_them() {
    let mesh = six();
    let source = mesh.dir().join("source.git");
    repository(&source, 5);
    git(&source, ["repack", "-a", "-d", "-q"]);
    let first = backup(&mesh, &source);
    // As Git itself lists them.
    let lines = |text: &str| -> Vec<(String, String)> {
        let pairs = text.lines().map(|line| line.split_once(char::is_whitespace).unwrap());
        pairs.map(|(id, name)| (id.to_owned(), name.trim().to_owned())).collect()
    };
    let expected: Vec<_> = lines(&git(&source, ["ls-remote", "."]))
        .into_iter()
        .filter(|(_, name)| !name.ends_with("^{}"))
        .collect();
    assert!(expected.len() >= 4, "{expected:?}");
    assert_eq!(lines(&look(&mesh, false, ["ls", "latest"]).ok().out), expected);
    let heads = all(&look(&mesh, true, ["ls", "latest", "refs/heads"]).ok(), "ref", "name");
    assert_eq!(heads, ["refs/heads/topic/one", "refs/heads/trunk"]);
    let long = look(&mesh, false, ["ls", "latest", "HEAD", "--long"]).ok().out;
    assert!(long.ends_with("HEAD -> refs/heads/trunk\n"), "{long}");
    let _ = look(&mesh, true, ["ls", "latest", "refs/heads/none"]).ended(10);
    let items = all(&look(&mesh, true, ["ls", "latest", "--items"]).ok(), "item", "path");
    let packs = |end: &str| {
        items.iter().filter(|item| item.starts_with("base/pack-") && item.ends_with(end)).count()
    };
    assert_eq!((packs(".pack"), packs(".idx")), (1, 1), "{items:?}");
    let found = all(&look(&mesh, true, ["find", "topic/*"]).ok(), "ref", "name");
    assert_eq!(found, ["refs/heads/topic/one"]);
    let head = look(&mesh, false, ["cat", "latest", "HEAD"]).ok().out;
    assert_eq!(head, "ref: refs/heads/trunk\n");

    let tip = git(&source, ["rev-parse", "trunk"]).trim().to_owned();
    let tree = git(&source, ["rev-parse", "trunk^{tree}"]).trim().to_owned();
    let next = git(&source, ["commit-tree", &tree, "-p", &tip, "-m", "Next"]).trim().to_owned();
    git(&source, ["update-ref", "refs/heads/trunk", &next]);
    git(&source, ["branch", "-D", "topic/one"]);
    git(&source, ["branch", "fresh", &tip]);
    write(source.join("description"), "Another description\n");
    let second = backup(&mesh, &source);
    let diff = look(&mesh, true, ["diff", &first, &second]).ok();
    let told: Vec<String> = all(&diff, "ref_change", "modifier")
        .into_iter()
        .zip(all(&diff, "ref_change", "name"))
        .map(|(sign, name)| format!("{sign} {name}"))
        .collect();
    let expected = ["M HEAD", "+ refs/heads/fresh", "- refs/heads/topic/one", "M refs/heads/trunk"];
    assert_eq!(told, expected);
    assert_eq!(diff.messages("ref_change")[3]["before"], tip.as_str());
    assert_eq!(diff.messages("ref_change")[3]["after"], next.as_str());
    assert_eq!(all(&diff, "change", "path"), ["description"]);
    let summary = diff.summary();
    assert_eq!((&summary["refs_moved"], &summary["bundles_added"]), (&2.into(), &1.into()));
    assert_eq!(summary["packs_added"], 0);
    let text = look(&mesh, false, ["diff", &first, "latest"]).ok().out;
    assert!(text.contains(&format!("M  refs/heads/trunk  {tip} -> {next}\n")), "{text}");
    let same = look(&mesh, true, ["diff", "latest", "latest"]).ok();
    assert_eq!((same.messages("ref_change").len(), same.messages("change").len()), (0, 0));
}

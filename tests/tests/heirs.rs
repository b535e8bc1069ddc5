//! Two operators swap; one has its key stolen and loses it. Two of the three heirs whom it named before let a new one speak: all goes on as it was
//! agreed, and the stolen key gets nothing any more.

use harness::swap::{
    HEARD, agree, held, introduce, operator, partner, reaches, shares, text, ticket,
};
use harness::{Mesh, Ran, bytes, strewn, tree_of, within, write};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
const CHANGED: &str = "another key speaks for an operator";

fn ask(home: &Path, arguments: &[&OsStr]) -> Ran {
    strewn(home, ["--json", "operator"].map(OsStr::new).iter().chain(arguments))
}

fn operator_says(mesh: &Mesh, arguments: &[&str]) -> Ran {
    ask(mesh.owner(), &arguments.iter().map(OsStr::new).collect::<Vec<_>>())
}

/// An heir signs a line with the key in a file.
fn signed(home: &Path, line: &str, key: &Path) -> Ran {
    ask(home, &["sign".as_ref(), line.as_ref(), "--key".as_ref(), key.as_os_str()])
}

/// What somebody copies who got into the operator's host.
fn steal(mesh: &Mesh) -> PathBuf {
    let folder = mesh.dir().join("stolen");
    fs::create_dir(&folder).expect("a folder");
    for part in ["strewn.toml", "operator.key", "succession", "node.key", "node.cert", "run"] {
        let copied =
            Command::new("cp").arg("-a").arg(mesh.owner().join(part)).arg(&folder).status();
        assert!(copied.expect("cp").success(), "{part}");
    }
    folder
}

fn message(ran: Ran) -> String {
    let error: Value = ran.messages("exit_error").pop().expect("an error");
    text(&error["message"])
}

#[test]
fn heirs_replace_a_stolen_key_and_the_swap_goes_on() {
    let (a, b) = (operator("a", 1), operator("b", 1));
    let heirs: Vec<(PathBuf, String)> = ["one", "two", "three"]
        .into_iter()
        .map(|name| {
            let file = a.dir().join(name);
            let made = ask(a.owner(), &["heir".as_ref(), file.as_os_str()]).summary();
            (file, text(&made["key"]))
        })
        .collect();
    let keys = heirs.iter().map(|(_, key)| key.as_str());
    let named: Vec<&str> = ["heirs"].into_iter().chain(keys).collect();
    let named = operator_says(&a, &named).summary();
    assert_eq!((&named["speaks"]["number"], &named["speaks"]["need"]), (&1.into(), &2.into()));
    introduce((&a, "a"), (&b, "b"));
    let before = partner(&b, &["show", "a"]).summary();
    assert_eq!(before["speaks"]["need"], 2, "B sees who they are: {before}");
    assert_eq!(before["speaks"]["heirs"].as_array().map(Vec::len), Some(3));
    reaches(&a, 2);
    let _ = agree((&b, "b"), (&a, "a"), "1GiB", "1GiB");
    shares(&b, "a", 1024 * MIB);
    shares(&a, "b", 1024 * MIB);
    a.create_vault("v", "[survive]\nany = [ { operator = 1 } ]\n[lock]\nperiod = \"30d\"\n");
    let source = a.dir().join("source");
    write(source.join("first"), bytes("heirs 1", 3_000_000));
    let _ = a.backup(&source).summary();
    let agreed = partner(&b, &["show", "a"]).summary();
    let used = agreed["held"].as_u64().expect("bytes");
    assert!(used > 0, "{agreed}");

    // The key is stolen, and gone. One heir is not enough, nor is the thief one.
    let thief = steal(&a);
    fs::remove_file(a.owner().join("operator.key")).expect("the key");
    let _ = a.strewn(["--json", "invite"]).ended(1);
    let draft = operator_says(&a, &["succeed", "--grace", "0"]).summary();
    assert_eq!((&draft["signatures"], &draft["needed"]), (&0.into(), &2.into()), "{draft}");
    let draft = text(&draft["line"]);
    let stolen = thief.join("operator.key");
    assert!(message(signed(&thief, &draft, &stolen).ended(1)).contains("no say"));
    let one = text(&signed(b.owner(), &draft, &heirs[0].0).summary()["line"]);
    assert!(message(operator_says(&a, &["take", &one]).ended(1)).contains("1 of the 2"));
    let third = text(&signed(b.owner(), &draft, &heirs[2].0).summary()["line"]);
    let done = operator_says(&a, &["take", &one, &third]).summary();
    assert_eq!(done["speaks"]["number"], 2, "{done}");
    assert_eq!(done["renewed"], serde_json::json!({ "node": true, "vaults": ["v"] }));
    assert_eq!(done["operator"], before["operator"], "it stays who it is");
    assert_eq!(done["partners"].as_array().map(Vec::len), Some(1), "B, and nobody else: {done}");

    // B adds the new line.
    let line = text(&ticket(&a, "a")["ticket"]);
    let added = partner(&b, &["add", &line]).summary();
    assert_eq!(added["operator"], before["operator"]);
    assert_ne!(added["fingerprint"], before["fingerprint"], "people compare who speaks as well");
    assert_eq!(added["speaks"]["number"], 2, "{added}");
    assert_eq!(added["agreement"], agreed["agreement"], "what was agreed stays");
    for mesh in [&a, &b] {
        assert!(within(HEARD, || mesh.nodes[0].log().contains(CHANGED)), "{}", mesh.nodes[0].log());
    }
    reaches(&a, 2);
    reaches(&b, 2);

    // What the old key signs gets nothing: no invitation, no vault, no partner's line.
    let ticket = text(&strewn(&thief, ["--json", "invite"]).summary()["ticket"]);
    let new = a.dir().join("new");
    let refused = message(strewn(&new, ["--json", "join", &ticket]).ended(1));
    assert!(refused.contains("earlier key"), "{refused}");
    let line = text(&strewn(&thief, ["--json", "partner", "ticket"]).summary()["ticket"]);
    let refused = message(partner(&b, &["add", &line]).ended(1));
    assert!(refused.contains("earlier key"), "{refused}");
    let policy = a.dir().join("v.toml");
    let create = ["--json", "vault", "create", "w", "--policy"].map(OsStr::new);
    let _ = strewn(&thief, create.into_iter().chain([policy.as_os_str()])).summary();
    let arguments = ["--json", "backup"].map(OsStr::new);
    let ran = strewn(&thief, arguments.into_iter().chain([source.as_os_str()]));
    assert_ne!(ran.messages("summary").len(), 1, "{ran:?}");
    assert_eq!(held(&b, "a").0, used);

    // With the new one all goes on.
    write(source.join("second"), bytes("heirs 2", 3_000_000));
    let summary = a.backup(&source).summary();
    assert_eq!(summary["degraded"], false, "{summary}");
    assert!(held(&b, "a").0 > used, "to the same account");
    let target = a.dir().join("restored");
    let _ = a.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}

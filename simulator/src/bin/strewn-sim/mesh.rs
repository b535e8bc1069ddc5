//! `--from-mesh` and `what-if`: a mesh that exists, as `strewn status --json` tells of it.

use crate::failure::{End, Failure};
use crate::human;
use clap::Args;
use protocol::survey::Toll;
use protocol::time::Period;
use simulator::from_mesh::{FILE_LEN_MAX, FromMesh, FromMeshError};
use simulator::plan::{Verdict, Who};
use simulator::scenario::{Event, Hit, PATIENCE, Scenario, Workload};
use simulator::study;
use std::path::{Path, PathBuf};

/// When `what-if` strikes: backups have been made by then.
const STRIKES: Period = Period::days(1);
/// For how long it looks at what comes of it, beyond the time that the loss itself takes.
const LOOKS: Period = Period::days(5);
/// The longest outage that it plays.
const DARK_MAX: Period = Period::days(365);

/// The mesh that a scenario is also played against.
#[derive(Debug, Default, Args)]
pub(crate) struct MeshArgs {
    /// Play also against the mesh of this file: what `strewn status --json` printed
    #[arg(long, value_name = "FILE")]
    from_mesh: Option<PathBuf>,
    /// What the scenario calls by the first label is the second one in your mesh; may be given several times
    #[arg(long = "as", num_args = 2, value_names = ["LABEL", "YOURS"], requires = "from_mesh")]
    pub(crate) renamed: Vec<String>,
}

impl MeshArgs {
    /// The mesh and the text that it was read from, if there is one.
    pub(crate) fn read(&self) -> Result<Option<(FromMesh, String)>, Failure> {
        let Some(path) = &self.from_mesh else { return Ok(None) };
        let (mut mesh, text) = read(path)?;
        for pair in self.renamed.chunks_exact(2) {
            mesh = mesh.calling(&pair[0], &pair[1]).map_err(|error| wrong(path, &error))?;
        }
        Ok(Some((mesh, text)))
    }
}

/// Reads the mesh of a file.
pub(crate) fn read(path: &Path) -> Result<(FromMesh, String), Failure> {
    let text = text_of(path, FILE_LEN_MAX, "status")?;
    let mesh = FromMesh::read(&text).map_err(|error| wrong(path, &error))?;
    Ok((mesh, text))
}

fn wrong(path: &Path, error: &FromMeshError) -> Failure {
    let what = format!("{}: {error}", path.display());
    match error {
        FromMeshError::NoDomain { .. } | FromMeshError::Label(_) => {
            Failure::usage(what, "name domains as `strewn peers` shows them")
        }
        _ => Failure::usage(what, "run `strewn status --json > status.json` and give that file"),
    }
}

/// A file's text, up to so many bytes.
pub(crate) fn text_of(path: &Path, most: u64, what: &str) -> Result<String, Failure> {
    String::from_utf8(bytes_of(path, most, what)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].split(|byte| *byte == b'\n').count();
        let what = format!("{} is not UTF-8: line {line} has other bytes", path.display());
        Failure::usage(what, "save it as UTF-8")
    })
}

/// What is in a file, up to so many bytes.
pub(crate) fn bytes_of(path: &Path, most: u64, what: &str) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let unread = |error: std::io::Error| {
        Failure::usage(
            format!("{name} cannot be read: {error}"),
            "check the path and its permissions",
        )
    };
    if std::fs::metadata(path).map_err(unread)?.len() > most {
        let long = format!("{name} is longer than {most} bytes, which no {what} is");
        return Err(Failure::usage(long, format!("give a file with a {what}")));
    }
    std::fs::read(path).map_err(unread)
}

/// Says what is to be known of a mesh.
pub(crate) fn say(notes: &[String]) {
    for note in notes {
        say!("note: {note}");
    }
}

/// What is lost, of which mesh.
#[derive(Debug, Args)]
pub(crate) struct WhatIfArgs {
    /// What `strewn status --json` printed
    #[arg(long, value_name = "FILE")]
    from_mesh: PathBuf,
    /// A domain to lose, as `strewn peers` shows it: provider=aws; may be given several times, and all are lost together
    #[arg(long, required = true, value_name = "LEVEL=NAME")]
    lose: Vec<String>,
    /// Out of reach for so long (6h, 3d) and not lost
    #[arg(long, value_name = "TIME")]
    dark: Option<Period>,
    /// The seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Says what a loss comes to by the records, and plays it.
pub(crate) fn what_if(args: &WhatIfArgs) -> Result<End, Failure> {
    let (mesh, _) = read(&args.from_mesh)?;
    let fail = |error: FromMeshError| wrong(&args.from_mesh, &error);
    if let Some(dark) = args.dark.filter(|dark| *dark > DARK_MAX) {
        let what = format!("{dark} is no outage: at most {DARK_MAX} are played");
        return Err(Failure::usage(what, "leave --dark out to play a loss for good"));
    }
    if args.dark == Some(Period(0)) {
        let what = "an outage of no time is none";
        return Err(Failure::usage(
            what,
            "give --dark 6h, or leave it out to play a loss for good",
        ));
    }
    let toll = mesh.toll(&args.lose).map_err(fail)?;
    let scenario = scenario(args);
    let arrangement = mesh.arrangement(&scenario).map_err(fail)?;
    let row = study::play(&scenario, &arrangement, args.seed).row;
    if args.json {
        let found = serde_json::json!({
            "lost": args.lose, "title": arrangement.title, "toll": toll, "run": study::json(&row), "notes": mesh.notes(),
        });
        say!("{found}");
    } else {
        say!("{}", told(&toll, args));
        say!(
            "Played ({}):\n  {}",
            arrangement.title,
            human::verdict(&row, &scenario, &arrangement)
        );
        say(&mesh.notes());
    }
    let is_kept =
        matches!(row.verdict, Verdict::Survived | Verdict::Degraded) && !row.is_never_backed_up();
    Ok(match row.violation {
        Some(_) => End::Violated,
        None if is_kept && (args.dark.is_some() || toll.left == toll.stripes) => End::Expected,
        None => End::Unexpected,
    })
}

fn scenario(args: &WhatIfArgs) -> Scenario {
    let hit = |label: &String| {
        let who = Who::Label(label.clone());
        let hit = match args.dark {
            Some(period) => Hit::Dark(who, period),
            None => Hit::Destroy(who),
        };
        Event { at: STRIKES, until: None, hit }
    };
    Scenario {
        name: "what-if".into(),
        title: format!("What if {} {}", args.lose.join(" and "), doing(args)),
        facts: None,
        duration: Period(STRIKES.0 + LOOKS.0 + args.dark.unwrap_or_default().0),
        patience: Some(PATIENCE),
        // Nothing new: what is asked about is what lies there.
        workload: Workload { every: Period::days(1), stripes: 0, changed_per_mille: 0 },
        events: args.lose.iter().map(hit).collect(),
        rates: Vec::new(),
        arrangements: Vec::new(),
    }
}

fn doing(args: &WhatIfArgs) -> String {
    match (args.dark, args.lose.len()) {
        (Some(dark), 1) => format!("is out of reach for {}", human::span(dark)),
        (Some(dark), _) => format!("are out of reach for {}", human::span(dark)),
        (None, 1) => "is lost".into(),
        (None, _) => "are lost".into(),
    }
}

/// What the records say, in a sentence.
fn told(toll: &Toll, args: &WhatIfArgs) -> String {
    let Toll { stripes, left, below_policy, lost_already, left_out } = *toll;
    let meanwhile = if args.dark.is_some() { " meanwhile" } else { "" };
    let found = format!(
        "By the records: if {} {}, {left} of {stripes} stripes can be read{meanwhile}, {below_policy} of these below the policy",
        args.lose.join(" and "),
        doing(args)
    );
    let already = (lost_already > 0).then(|| format!("{lost_already} cannot be read now"));
    let unknown = (left_out > 0)
        .then(|| format!("of {left_out} more the status does not say where they lie"));
    let parts: Vec<String> = [Some(found), already, unknown].into_iter().flatten().collect();
    format!("{}.", parts.join("; "))
}

//! `backup` without a source: the profiles of strewn.toml, one after another.

use super::data;
use crate::cli::Exit;
use crate::cli::args::{BackupArgs, RuleArgs, VaultArg};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::{Config, Profile};
use crate::home::Home;

/// Backs up what is named, or else what the profiles name.
pub async fn backup(home: &Home, args: BackupArgs, output: &Output) -> Result<Exit, CliError> {
    let is_told = !args.source.is_empty() || !args.git_root.is_empty();
    if is_told || args.stream.stdin || args.stream.from_command {
        return data::backup(home, args, output).await;
    }
    let profiles = choose(home, Config::load(home)?.backup, &args)?;
    let alone = profiles.len() == 1;
    let mut worst = Exit::Done;
    let mut failed = Vec::new();
    for profile in profiles {
        let name = profile.name.clone();
        output.line(format!("profile {name}"));
        match data::backup(home, arguments(profile, &args), output).await {
            Ok(Exit::Done) => {}
            Ok(exit) => worst = exit,
            Err(error) if alone => return Err(error.during(format!("profile {name}"))),
            // One that fails does not stop the others.
            Err(error) => {
                output.item_error("backup", &format!("profile {name}"), &error.message());
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(worst);
    }
    Err(CliError::new(format!("profiles that failed: {}", failed.join(", ")))
        .next("the messages above say why; `strewn backup --profile NAME` runs one again"))
}

/// The profiles asked for.
fn choose(
    home: &Home,
    profiles: Vec<Profile>,
    args: &BackupArgs,
) -> Result<Vec<Profile>, CliError> {
    let file = home.path("strewn.toml");
    let file = file.display();
    if profiles.is_empty() {
        return Err(CliError::new(format!("nothing to back up: no source is named, and {file} has no [[backup]]"))
            .next("name a folder or a repository, or add to that file: [[backup]] name = \"daily\" sources = [\"~/src\"]")
            .exit(Exit::Usage));
    }
    let known: Vec<String> = profiles.iter().map(|profile| profile.name.clone()).collect();
    if let Some(name) = args.profile.iter().find(|name| !known.contains(name)) {
        return Err(CliError::new(format!("{file} has no [[backup]] named {name:?}"))
            .next(format!("there are {}", known.join(", ")))
            .exit(Exit::Usage));
    }
    let vault = args.vault.vault.as_deref();
    let is_meant = |profile: &Profile| {
        (args.profile.is_empty() || args.profile.contains(&profile.name))
            && (vault.is_none() || profile.vault.is_none() || profile.vault.as_deref() == vault)
    };
    let meant: Vec<Profile> = profiles.into_iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(CliError::new("no profile asked for is of this vault").exit(Exit::Usage));
    }
    Ok(meant)
}

/// A profile as the command line would say it, with what the command line said besides.
fn arguments(profile: Profile, given: &BackupArgs) -> BackupArgs {
    let rules = RuleArgs {
        exclude: profile.exclude.into_iter().chain(given.rules.exclude.iter().cloned()).collect(),
        exclude_file: {
            let given = given.rules.exclude_file.iter().cloned();
            profile.exclude_file.into_iter().chain(given).collect()
        },
        exclude_caches: profile.exclude_caches || given.rules.exclude_caches,
        one_file_system: profile.one_file_system || given.rules.one_file_system,
    };
    BackupArgs {
        source: profile.sources,
        git_root: profile.git_root,
        vault: VaultArg { vault: profile.vault.or_else(|| given.vault.vault.clone()) },
        tag: profile.tag.into_iter().chain(given.tag.iter().cloned()).collect(),
        as_directory: profile.as_directory || given.as_directory,
        allow_degraded: profile.allow_degraded || given.allow_degraded,
        force: profile.force || given.force,
        rules,
        ..BackupArgs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str, vault: Option<&str>) -> Profile {
        Profile {
            name: name.into(),
            vault: vault.map(str::to_owned),
            sources: vec!["/a".into()],
            tag: vec!["daily".into()],
            exclude: vec!["*.o".into()],
            ..Profile::default()
        }
    }

    fn named(profiles: &[&str], vault: Option<&str>) -> BackupArgs {
        BackupArgs {
            profile: profiles.iter().map(ToString::to_string).collect(),
            vault: VaultArg { vault: vault.map(str::to_owned) },
            tag: vec!["by hand".into()],
            force: true,
            ..BackupArgs::default()
        }
    }

    #[test]
    fn profiles_are_chosen_by_name_and_vault() {
        let home = Home::new("/tmp/x".into());
        let all =
            || vec![profile("a", Some("work")), profile("b", Some("home")), profile("c", None)];
        let chosen = |args: &BackupArgs| {
            let chosen = choose(&home, all(), args)?;
            Ok::<_, CliError>(chosen.into_iter().map(|p| p.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&named(&[], None)).unwrap(), ["a", "b", "c"]);
        assert_eq!(chosen(&named(&["b"], None)).unwrap(), ["b"]);
        assert_eq!(chosen(&named(&[], Some("work"))).unwrap(), ["a", "c"]);
        assert_eq!(chosen(&named(&["z"], None)).unwrap_err().code(), Exit::Usage);
        assert_eq!(chosen(&named(&["b"], Some("work"))).unwrap_err().code(), Exit::Usage);
        assert_eq!(choose(&home, Vec::new(), &named(&[], None)).unwrap_err().code(), Exit::Usage);
    }

    #[test]
    fn what_the_command_line_says_is_added() {
        let made = arguments(profile("a", Some("work")), &named(&["a"], None));
        assert_eq!(made.tag, ["daily", "by hand"]);
        assert!(made.force && !made.as_directory && made.profile.is_empty());
        assert_eq!(made.vault.vault.as_deref(), Some("work"));
        assert_eq!(made.rules.exclude, ["*.o"]);
    }
}

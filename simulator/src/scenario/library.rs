//! The scenarios that come with the program. Their files lie in `simulator/scenarios/`.

use super::{Scenario, ScenarioError, read};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// Names and texts of all shipped files, by date of what they tell.
#[must_use]
pub fn shipped() -> &'static [(&'static str, &'static str)] {
    const FILES: [(&str, &str); 16] = files!(
        "code-spaces-2014",
        "distribute-it-2011",
        "megaupload-2012",
        "nirvanix-2013",
        "gitlab-2017",
        "vfemail-2019",
        "raisup-2019",
        "parler-2021",
        "ovh-sbg-2021",
        "kakao-pangyo-2022",
        "gcp-europe-west9-2023",
        "cloudnordic-2023",
        "unisuper-2024",
        "nirs-daejeon-2025",
        "insider-slow-burn",
        "poisoned-retention",
    );
    &FILES
}

/// All shipped scenarios.
///
/// # Errors
/// [`ScenarioError`] when a shipped file is none; a test reads them all.
pub fn library() -> Result<Vec<Scenario>, ScenarioError> {
    shipped().iter().map(|(name, text)| read(&format!("{name}.toml"), text)).collect()
}

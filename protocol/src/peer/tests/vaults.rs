//! Introductions: a vault's papers are taken from its devices, newer versions only.

use super::cast::*;
use super::desk::{Desk, code};
use crate::certificate::VaultPapers;
use crate::message::{RefusalCode, Request, Response};
use crate::peer::{PeerConfig, Table};

fn versions(papers: &VaultPapers) -> (u64, u64) {
    (papers.descriptor.verify().unwrap().version, papers.roster.verify().unwrap().version)
}

#[test]
fn newer_papers_replace_older_ones_and_never_the_reverse() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let vault = public(VAULT).into();
    for (offered, kept) in [(3, 3), (2, 3), (4, 4)] {
        let papers = papers(VAULT, offered, &[NODE]);
        assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
        let Response::Vault(Some(state)) = desk.ask(link, Request::Vault(vault)) else { panic!() };
        assert_eq!(versions(&state.papers), (kept, kept));
        assert_eq!(state.devices.len(), 1);
    }
    // Versions 1, 3 and 4: what was accepted once is kept.
    assert_eq!(desk.rows(Table::Roster), 3);
}

#[test]
fn one_version_has_one_content() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let other = papers(VAULT, 1, &[THIRD]);
    assert_eq!(desk.ask(link, Request::Introduce(other)), Response::Done);
    let Response::Vault(Some(state)) = desk.ask(link, Request::Vault(public(VAULT).into())) else {
        panic!()
    };
    assert_eq!(state.papers.roster.verify().unwrap().nodes.len(), 3);
}

#[test]
fn an_introduction_is_not_done_before_it_is_durable() {
    let mut desk = Desk::new();
    let link = desk.device(VAULT, DEVICE);
    let first = desk.send(link, Request::Introduce(papers(VAULT, 1, &[NODE])));
    let again = desk.send(link, Request::Introduce(papers(VAULT, 1, &[NODE])));
    assert_eq!(desk.reply(first), None);
    assert!(matches!(desk.reply(again), Some((Response::Busy { .. }, false))));
    assert!(desk.fail_one());
    assert_eq!(code(&desk.reply(first).unwrap().0), RefusalCode::Internal);
    assert_eq!(desk.rows(Table::Vault), 0);
}

#[test]
fn only_a_device_of_the_vault_introduces_it() {
    let mut desk = Desk::new();
    let (node, other) = (desk.node(NEIGHBOUR), desk.device(OTHER_VAULT, OTHER_DEVICE));
    for link in [node, other] {
        let response = desk.ask(link, Request::Introduce(papers(VAULT, 1, &[NODE])));
        assert_eq!(code(&response), RefusalCode::NotAllowed);
    }
}

#[test]
fn papers_that_do_not_belong_together_are_refused() {
    let mut desk = Desk::new();
    let link = desk.device(VAULT, DEVICE);
    let mut mixed = papers(VAULT, 1, &[NODE]);
    mixed.roster = papers(OTHER_VAULT, 1, &[NODE]).roster;
    let mut foreign = papers(VAULT, 1, &[NODE]);
    foreign.certificate = vault_certificate(FOREIGN_OPERATOR, VAULT, EXPIRY);
    let mut expired = papers(VAULT, 1, &[NODE]);
    expired.certificate = vault_certificate(OPERATOR, VAULT, EPOCH);
    for wrong in [mixed, foreign, expired] {
        let response = desk.ask(link, Request::Introduce(wrong));
        assert_eq!(code(&response), RefusalCode::NotVouched);
    }
    assert_eq!(desk.rows(Table::Vault), 0);
}

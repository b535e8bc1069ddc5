use super::*;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// What a file is read as: bytes of data and lengths of holes.
fn stretches(file: &File) -> Vec<(usize, u64)> {
    let meta = file.metadata().unwrap();
    let mut content = SparseFile::new(file, meta.size(), meta.blocks());
    let mut found = Vec::new();
    loop {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        let hole = content.hole().unwrap();
        found.push((bytes.len(), hole));
        if hole == 0 {
            return found;
        }
    }
}

fn file(size: u64, data: &[(u64, usize)]) -> File {
    let file = tempfile::tempfile().unwrap();
    rustix::fs::ftruncate(file.as_fd(), size).unwrap();
    for (at, len) in data {
        file.write_all_at(&vec![7; *len], *at).unwrap();
    }
    file
}

/// Whether files here can have holes at all.
fn has_holes(file: &File) -> bool {
    let holes = file.metadata().unwrap().blocks() == 0;
    assert!(
        holes || std::env::var_os("STREWN_REQUIRE_ALL").is_none(),
        "the folder for temporary files must be on a file system with holes"
    );
    if !holes {
        eprintln!("skipped: no holes on this file system");
    }
    holes
}

#[test]
fn holes_are_found_and_not_read() {
    const MIB: u64 = 1 << 20;
    if !has_holes(&file(MIB, &[])) {
        return;
    }
    assert_eq!(stretches(&file(1 << 40, &[])), [(0, 1 << 40), (0, 0)]);
    let begins = file(3 * MIB, &[(0, 4096)]);
    assert_eq!(stretches(&begins), [(4096, 3 * MIB - 4096), (0, 0)]);
    let ends = file(3 * MIB, &[(3 * MIB - 4096, 4096)]);
    assert_eq!(stretches(&ends), [(0, 3 * MIB - 4096), (4096, 0)]);
    let both = file(3 * MIB, &[(MIB, 4096), (2 * MIB, 4096)]);
    let between = MIB - 4096;
    assert_eq!(stretches(&both), [(0, MIB), (4096, between), (4096, between), (0, 0)]);
}

#[test]
fn small_holes_are_the_zeros_that_they_read_as() {
    let full = 1 << 20;
    let many: Vec<(u64, usize)> = (0..16).map(|i| (i * (full / 16), 4096)).collect();
    let many = file(full, &many);
    assert_eq!(stretches(&many), [(1 << 20, 0)]);
    assert_eq!(stretches(&file(5, &[(0, 5)])), [(5, 0)]);
    assert_eq!(stretches(&file(0, &[])), [(0, 0)]);
}

#[test]
fn a_file_that_is_cut_off_meanwhile_ends() {
    let file = file(1 << 20, &[(0, 1 << 20)]);
    let mut content = SparseFile::new(&file, 1 << 20, 2048);
    assert_eq!(content.read(&mut [0; 10]).unwrap(), 10);
    rustix::fs::ftruncate(file.as_fd(), 100).unwrap();
    let mut rest = Vec::new();
    assert_eq!(content.read_to_end(&mut rest).unwrap(), 90);
    assert_eq!(content.hole().unwrap(), 0);
}

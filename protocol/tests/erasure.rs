//! The erasure code against its own definition, written out plainly here, and against any loss of n - k
//! shards. Should the crate behind it vanish, this file says what it computed.

use proptest::prelude::*;
use protocol::erasure::{Codec, ErasureError, Slot};

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// n shards, one after another.
fn encode(codec: &Codec, data: &[u8]) -> Vec<u8> {
    let mut all = data.to_vec();
    all.resize(data.len() / codec.k() * codec.n(), 0);
    let (data, parity) = all.split_at_mut(data.len());
    codec.encode(data, parity).unwrap();
    all
}

fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        // x^8 = x^4 + x^3 + x^2 + 1
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
        b >>= 1;
    }
    product
}

fn power(base: u8, exponent: usize) -> u8 {
    (0..exponent).fold(1, |product, _| multiply(product, base))
}

/// The inverse of a square matrix, by elimination.
fn invert(mut matrix: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let k = matrix.len();
    for (r, row) in matrix.iter_mut().enumerate() {
        row.extend((0..k).map(|c| u8::from(r == c)));
    }
    for pivot in 0..k {
        let row = (pivot..k).find(|&row| matrix[row][pivot] != 0).unwrap();
        matrix.swap(pivot, row);
        let factor = power(matrix[pivot][pivot], 254);
        matrix[pivot].iter_mut().for_each(|cell| *cell = multiply(*cell, factor));
        let pivot_row = matrix[pivot].clone();
        for row in (0..k).filter(|&row| row != pivot) {
            let factor = matrix[row][pivot];
            for (cell, of_pivot) in matrix[row].iter_mut().zip(&pivot_row) {
                *cell ^= multiply(factor, *of_pivot);
            }
        }
    }
    matrix.into_iter().map(|row| row[k..].to_vec()).collect()
}

fn dot(row: &[u8], columns: impl Fn(usize) -> u8) -> u8 {
    row.iter().enumerate().fold(0, |sum, (i, &cell)| sum ^ multiply(cell, columns(i)))
}

/// All n shards by the definition: V · T⁻¹ · data.
fn encode_by_definition(k: usize, n: usize, data: &[u8]) -> Vec<u8> {
    let vandermonde: Vec<Vec<u8>> =
        (0..n).map(|r| (0..k).map(|c| power(r as u8, c)).collect()).collect();
    let inverse = invert(vandermonde[..k].to_vec());
    let len = data.len() / k;
    let mut all = Vec::new();
    for row in &vandermonde {
        let row: Vec<u8> = (0..k).map(|c| dot(row, |i| inverse[i][c])).collect();
        all.extend((0..len).map(|at| dot(&row, |shard| data[shard * len + at])));
    }
    all
}

/// Loses shards and rebuilds them; lost parity is given no room when `bare`.
fn rebuild(codec: &Codec, all: &[u8], lost: &[usize], bare: bool) -> Result<Vec<u8>, ErasureError> {
    let len = all.len() / codec.n();
    let mut shards: Vec<Vec<u8>> = all.chunks_exact(len).map(<[u8]>::to_vec).collect();
    for &i in lost {
        shards[i].fill(0xee);
        if bare && i >= codec.k() {
            shards[i].clear();
        }
    }
    let mut slots: Vec<Slot<'_>> = shards
        .iter_mut()
        .enumerate()
        .map(|(i, bytes)| Slot { bytes, present: !lost.contains(&i) })
        .collect();
    codec.reconstruct(&mut slots)?;
    assert!(slots[..codec.k()].iter().all(|slot| slot.present));
    Ok(shards[..codec.k()].concat())
}

#[test]
fn a_shard_of_another_length_is_refused() {
    let codec = Codec::new(2, 4).unwrap();
    let mut shards = [vec![0; 8], vec![0; 8], vec![0; 7], vec![]];
    let mut slots: Vec<Slot<'_>> = shards
        .iter_mut()
        .enumerate()
        .map(|(i, bytes)| Slot { bytes, present: i == 0 || i == 2 })
        .collect();
    assert!(matches!(
        codec.reconstruct(&mut slots),
        Err(ErasureError::Shape { found: 7, expected: 8, .. })
    ));
    assert!(matches!(
        codec.reconstruct(&mut slots[..3]),
        Err(ErasureError::Shape { found: 3, expected: 4, .. })
    ));
}

/// A code of any size, and an order of its shards: the first are lost.
fn codes() -> impl Strategy<Value = (usize, usize, Vec<usize>)> {
    (1usize..=256)
        .prop_flat_map(|n| (1..=n, Just(n)))
        .prop_flat_map(|(k, n)| (Just(k), Just(n), Just((0..n).collect::<Vec<_>>()).prop_shuffle()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_k_of_n_shards_give_the_data_back(
        (k, n, order) in codes(), len in 1usize..300, seed: u64, bare: bool, share in 0usize..=8,
    ) {
        let codec = Codec::new(k, n).unwrap();
        let data = noise(k * len, seed);
        let all = encode(&codec, &data);
        prop_assert_eq!(&all[..k * len], &data[..]);
        let some = (n - k) * share / 8;
        for lost in [&order[..n - k], &order[..some]] {
            prop_assert_eq!(&rebuild(&codec, &all, lost, bare).unwrap(), &data);
        }
        let too_many = rebuild(&codec, &all, &order[..=n - k], bare);
        prop_assert_eq!(too_many, Err(ErasureError::TooFew { found: k - 1, needed: k }));
    }

    #[test]
    fn the_code_is_the_one_that_is_documented(
        n in 1usize..=256, k in 1usize..=24, len in 1usize..9, seed: u64,
    ) {
        let k = k.min(n);
        let data = noise(k * len, seed);
        let all = encode(&Codec::new(k, n).unwrap(), &data);
        prop_assert_eq!(all, encode_by_definition(k, n, &data));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn columns_do_not_show(columns in 0usize..3, off in 0usize..3, seed: u64) {
        // Lengths at, below and above whole columns of 32 KiB.
        let len = (columns * (32 << 10) + off).saturating_sub(1).max(1);
        let codec = Codec::new(3, 5).unwrap();
        let data = noise(3 * len, seed);
        let all = encode(&codec, &data);
        for at in [0, len / 2, len - 1] {
            let column: Vec<u8> = (0..3).map(|i| data[i * len + at]).collect();
            let coded: Vec<u8> = (0..5).map(|i| all[i * len + at]).collect();
            prop_assert_eq!(encode_by_definition(3, 5, &column), coded);
        }
        prop_assert_eq!(rebuild(&codec, &all, &[0, 2], false).unwrap(), data);
    }
}

use super::*;
use protocol::id::NodeId;
use protocol::pack::PackEntry;
use protocol::placement::Listing;
use protocol::policy::Lock;

const NONE: BTreeSet<StripeId> = BTreeSet::new();
const DEVICE: DeviceId = DeviceId([9; 32]);

/// A pack with one chunk; both are named by `name`.
fn pack(name: u8) -> IndexedPack {
    let entry = PackEntry { id: ChunkId([name; 32]), offset: 128, len: 50, plain_len: 33 };
    IndexedPack {
        stripe: StripeId([name; 32]),
        session: SessionId([3; 32]),
        nonce: [4; 32],
        k: 2,
        shard_len: 128,
        chunks: vec![entry],
    }
}

fn held(name: u8) -> (StripeId, Holders) {
    let nodes = vec![NodeId([name; 32]), NodeId([7; 32])];
    (StripeId([name; 32]), Holders { k: 1, lock: Lock::default(), nodes })
}

/// The first pack, as index stripe 8 lists it.
fn listed() -> (StripeId, IndexBlock) {
    (StripeId([8; 32]), IndexBlock { packs: vec![pack(1)] })
}

fn pending(index: &Index) -> Vec<StripeId> {
    let pending = index.pending().unwrap();
    pending.map_or(Vec::new(), |found| found.block.packs.iter().map(|p| p.stripe).collect())
}

#[test]
fn what_was_merged_is_found_and_a_damaged_cache_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.merge(DEVICE, 3, &[listed()], &NONE).unwrap();
    let location = index.find(ChunkId([1; 32])).unwrap().unwrap();
    assert_eq!((location.number, location.offset, location.plain_len), (0, 128, 33));
    assert_eq!(index.pack(location.pack).unwrap().stripe, StripeId([1; 32]));
    assert!(index.is_merged(DEVICE, 3).unwrap() && !index.is_merged(DEVICE, 4).unwrap());
    assert_eq!(index.find(ChunkId([7; 32])).unwrap(), None);
    drop(index);
    std::fs::write(dir.path().join("index.redb"), b"not a database").unwrap();
    assert_eq!(Index::open(dir.path()).unwrap().find(ChunkId([1; 32])).unwrap(), None);
}

#[test]
fn what_holders_have_is_known_at_once_and_listed_later() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.add_pending(&[pack(1), pack(2)], &[]).unwrap();
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert!(index.find(ChunkId([2; 32])).unwrap().is_some());
    assert_eq!(pending(&index), [StripeId([1; 32]), StripeId([2; 32])]);
    let block = index.pending().unwrap().unwrap();
    index.add_pending(&[pack(3)], &[]).unwrap();
    index.settle(DEVICE, 0, &block, held(9)).unwrap();
    assert_eq!(pending(&index), [StripeId([3; 32])]);
    assert!(index.is_merged(DEVICE, 0).unwrap());
}

#[test]
fn what_a_log_entry_names_already_is_not_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.add_pending(&[pack(1), pack(2)], &[]).unwrap();
    // The process was killed between the entry and settling; the next one reads the entry.
    index.merge(DEVICE, 0, &[listed()], &NONE).unwrap();
    assert_eq!(pending(&index), [StripeId([2; 32])]);
    assert_eq!(index.find(ChunkId([1; 32])).unwrap().unwrap().pack, 0);
}

#[test]
fn a_second_process_has_its_own_cache_and_the_next_one_takes_it_in() {
    let dir = tempfile::tempdir().unwrap();
    let first = Index::open(dir.path()).unwrap();
    let second = Index::open(dir.path()).unwrap();
    first.add_pending(&[pack(1)], &[]).unwrap();
    second.add_pending(&[pack(2)], &[held(2)]).unwrap();
    assert_eq!(second.find(ChunkId([1; 32])).unwrap(), None);
    drop((first, second));
    let next = Index::open(dir.path()).unwrap();
    assert_eq!(pending(&next), [StripeId([1; 32]), StripeId([2; 32])]);
    assert!(!dir.path().join("index-1.redb").exists());
    assert_eq!(next.holders(StripeId([2; 32])).unwrap(), Some(held(2).1));
    assert_eq!(next.holders(StripeId([1; 32])).unwrap(), None);
}

#[test]
fn a_chunk_that_was_sent_again_is_read_from_its_new_place_and_its_old_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let again = IndexedPack { stripe: StripeId([2; 32]), ..pack(1) };
    index.merge(DEVICE, 0, &[listed()], &NONE).unwrap();
    index.add_pending(&[again], &[held(2)]).unwrap();
    let (new, old) = (
        index.find(ChunkId([1; 32])).unwrap().unwrap(),
        index.find_older(ChunkId([1; 32])).unwrap(),
    );
    assert_eq!(index.pack(new.pack).unwrap().stripe, StripeId([2; 32]));
    assert_eq!(old.len(), 1);
    assert_eq!(index.pack(old[0].pack).unwrap().stripe, StripeId([1; 32]));
    assert_eq!(index.listing(old[0].pack).unwrap(), Listing::In(StripeId([8; 32])));
    // Nothing is read from the old stripe any more, nor from the one that lists only it.
    let replaced = index.replaced().unwrap();
    assert_eq!(replaced, [StripeId([1; 32]), StripeId([8; 32])].into());
    assert_eq!(index.listing(new.pack).unwrap(), Listing::Pending);
    let block = index.pending().unwrap().unwrap();
    index.settle(DEVICE, 1, &block, held(9)).unwrap();
    assert_eq!(index.listing(new.pack).unwrap(), Listing::In(StripeId([9; 32])));
    assert_eq!(index.holders(StripeId([9; 32])).unwrap(), Some(held(9).1));
}

#[test]
fn of_a_cache_of_the_first_format_the_journal_stays() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.merge(DEVICE, 0, &[listed()], &NONE).unwrap();
    index.add_pending(&[pack(2)], &[]).unwrap();
    index.write(|write| write.delete_table(LISTED).map(drop).map_err(failed)).unwrap();
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert!(!index.is_merged(DEVICE, 0).unwrap());
    assert_eq!(index.find(ChunkId([1; 32])).unwrap(), None);
    assert_eq!(pending(&index), [StripeId([2; 32])]);
    assert!(index.find(ChunkId([2; 32])).unwrap().is_some());
}

#[test]
fn a_block_takes_only_what_fits() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let packs: Vec<IndexedPack> = (0..70).map(pack).collect();
    index.add_pending(&packs, &[]).unwrap();
    let block = index.pending().unwrap().unwrap();
    assert_eq!(block.block.packs.len(), 64);
    index.settle(DEVICE, 0, &block, held(9)).unwrap();
    let block = index.pending().unwrap().unwrap();
    assert_eq!(block.block.packs.len(), 6);
}

#[test]
fn a_chunk_is_read_from_a_pack_that_was_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let again = |name: u8| IndexedPack { stripe: StripeId([name; 32]), ..pack(1) };
    let listed = |stripe: u8, pack: IndexedPack| {
        [(StripeId([stripe; 32]), IndexBlock { packs: vec![pack] })]
    };
    index.merge(DEVICE, 0, &listed(11, again(1)), &NONE).unwrap();
    index.merge(DEVICE, 1, &listed(12, again(2)), &NONE).unwrap();
    index.merge(DEVICE, 2, &listed(13, again(3)), &NONE).unwrap();
    let chunk = ChunkId([1; 32]);
    let newest =
        |index: &Index| index.pack(index.find(chunk).unwrap().unwrap().pack).unwrap().stripe.0[0];
    let aside = |names: &[u8]| {
        index.set_aside(&names.iter().map(|&name| StripeId([name; 32])).collect()).unwrap();
        let older = index.find_older(chunk).unwrap();
        let older = older.iter().map(|place| index.pack(place.pack).unwrap().stripe.0[0]);
        (newest(&index), older.collect::<Vec<_>>())
    };
    assert_eq!(aside(&[]), (3, vec![2, 1]));
    assert_eq!(aside(&[3]), (2, vec![3, 1]));
    assert_eq!(aside(&[2, 3]), (1, vec![3, 2]));
    assert_eq!(aside(&[1, 2, 3]), (1, vec![3, 2]), "the last one is not lost");
    // What nothing is read from any more need not be extended: that is what was given up, not what took its place.
    let replaced = [2, 3, 12, 13].map(|name| StripeId([name; 32]));
    assert_eq!(index.replaced().unwrap(), replaced.into());
}

#[test]
fn a_pack_that_is_listed_again_is_the_same_and_what_was_given_up_lists_nothing_that_another_lists()
{
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let block = |name: u8| [(StripeId([name; 32]), IndexBlock { packs: vec![pack(1), pack(2)] })];
    let given_up = BTreeSet::from([StripeId([8; 32])]);
    let listing = || index.listing(0).unwrap();
    // Read while it was given up already, and nothing else lists them: better than nothing.
    index.merge(DEVICE, 0, &block(8), &given_up).unwrap();
    assert_eq!(listing(), Listing::In(StripeId([8; 32])));
    index.merge(DEVICE, 1, &block(9), &given_up).unwrap();
    assert_eq!(listing(), Listing::In(StripeId([9; 32])));
    index.merge(DEVICE, 2, &block(8), &given_up).unwrap();
    assert_eq!(listing(), Listing::In(StripeId([9; 32])));
    let mut packs = Vec::new();
    index.each_pack(|number, pack| packs.push((number, pack.stripe.0[0]))).unwrap();
    assert_eq!(packs, [(0, 1), (1, 2)]);
    assert_eq!(index.find_older(ChunkId([1; 32])).unwrap(), []);
    let mut places = Vec::new();
    index.each_place(|chunk, place| places.push((chunk.0[0], place.pack))).unwrap();
    assert_eq!(places, [(1, 0), (2, 1)]);
}

#[test]
fn a_cache_without_the_numbers_of_stripes_gets_them() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.merge(DEVICE, 0, &[listed()], &NONE).unwrap();
    index.write(|write| write.delete_table(STRIPES).map(drop).map_err(failed)).unwrap();
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    index.merge(DEVICE, 1, &[(StripeId([9; 32]), listed().1)], &NONE).unwrap();
    assert_eq!(index.listing(0).unwrap(), Listing::In(StripeId([9; 32])));
    assert_eq!(index.find_older(ChunkId([1; 32])).unwrap(), []);
}

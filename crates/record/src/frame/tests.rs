use super::*;
use proptest::prelude::*;

const SESSION: SessionId = SessionId(9);
const AT: Lsn = Lsn(4096 + 48);

fn batch(records: &[u8]) -> StoredBatch {
    let mut covered = vec![0; BATCH_SIZE_MIN - BATCH_PREFIX_SIZE];
    covered.extend(records);
    let mut rest = vec![2];
    rest.extend(crc32c(&covered).to_be_bytes());
    rest.extend(covered);
    let mut assigned = [0; ASSIGNED_SIZE];
    let length = u32::try_from(ASSIGNED_SIZE + rest.len() - BATCH_UNCOUNTED).unwrap();
    assigned[7] = 42;
    assigned[8..12].copy_from_slice(&length.to_be_bytes());
    StoredBatch { assigned, rest: rest.into() }
}

fn frames() -> impl Strategy<Value = Frame> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    (any::<[u8; 16]>(), any::<i32>(), any::<bool>(), any::<bool>(), bytes).prop_map(
        |(topic, index, urgent, layout, bytes)| Frame {
            partition: PartitionId { topic: Uuid(topic), index },
            body: match layout {
                true => FrameBody::Layout(bytes.into()),
                false => FrameBody::Batch(batch(&bytes)),
            },
            urgent,
        },
    )
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let encoded = frame.encode(SESSION, AT).unwrap();
    let bytes = [encoded.head.as_slice(), encoded.body[0], encoded.body[1]].concat();
    assert_eq!(bytes.len(), frame.encoded_size());
    bytes
}

fn decode(bytes: &[u8]) -> Result<(Frame, usize), FrameError> {
    Frame::decode(&Bytes::copy_from_slice(bytes), SESSION, AT)
}

#[test]
fn todays_bytes_stay_todays_bytes() {
    let partition = PartitionId { topic: Uuid([5; 16]), index: 3 };
    let body = FrameBody::Layout(Bytes::from_static(b"layout"));
    let bytes = bytes(&Frame { partition, body, urgent: true });
    let golden = [
        [0, 0, 0, 6, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9].as_slice(),
        &[0, 0, 0, 0, 0, 0, 0x10, 0x30],
        &[5; 16],
        &[0, 0, 0, 3],
    ];
    assert_eq!(bytes[..44], golden.concat());
    assert_eq!(bytes[44..48], [0xdd, 0x57, 0xf3, 0xad], "CRC32C by another program");
    assert_eq!(&bytes[48..], b"layout");
}

#[test]
fn an_intact_frame_of_a_reserved_kind_is_not_called_damaged() {
    for kind in [0, 3, 4, 5, 6, 7, 255] {
        let partition = PartitionId { topic: Uuid([5; 16]), index: 3 };
        let body = FrameBody::Layout(Bytes::from_static(b"from the future"));
        let mut bytes = bytes(&Frame { partition, body, urgent: false });
        bytes[4] = kind;
        let checksum = Crc::new().and(&bytes[..44]).and(&bytes[48..]).value();
        bytes[44..48].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(decode(&bytes), Err(FrameError::Unknown { kind }));
    }
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let partition = PartitionId { topic: Uuid([5; 16]), index: 3 };
    let check = |body, field| {
        let frame = Frame { partition, body, urgent: false };
        assert_eq!(frame.encode(SESSION, AT).unwrap_err(), FrameError::Unfit(field));
    };
    let mut longer = batch(b"abc");
    longer.rest = [longer.rest.as_ref(), b"d"].concat().into();
    check(FrameBody::Batch(longer), "batch length");
    let mut short = batch(b"");
    short.rest = short.rest.slice(..44);
    short.assigned[11] -= 1;
    check(FrameBody::Batch(short), "batch size");
    check(FrameBody::Layout(vec![0; FRAME_BODY_MAX + 1].into()), "body length");
}

proptest! {
    #[test]
    fn decode_reverses_encode(frame in frames(), more: [u8; 9], count in 0..9_usize) {
        let mut encoded = bytes(&frame);
        encoded.extend(&more[..count]);
        prop_assert_eq!(decode(&encoded), Ok((frame.clone(), frame.encoded_size())));
    }

    #[test]
    fn every_flipped_bit_is_refused(frame in frames()) {
        let encoded = bytes(&frame);
        for bit in 0..encoded.len() * 8 {
            let mut damaged = encoded.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = decode(&damaged);
            prop_assert!(
                matches!(found, Err(FrameError::Damaged(_) | FrameError::Truncated { .. })),
                "bit {}: {:?}", bit, found
            );
        }
    }

    #[test]
    fn every_cut_says_what_it_needs(frame in frames()) {
        let encoded = bytes(&frame);
        for cut in 0..encoded.len() {
            let needed = if cut < FRAME_HEADER_SIZE { FRAME_HEADER_SIZE } else { encoded.len() };
            prop_assert_eq!(decode(&encoded[..cut]), Err(FrameError::Truncated { needed }));
        }
    }

    #[test]
    fn what_another_left_behind_is_refused(frame in frames(), session: u64, position: u64) {
        let encoded = Bytes::from(bytes(&frame));
        for (session, position) in [(SessionId(session), AT), (SESSION, Lsn(position))] {
            let same = session == SESSION && position == AT;
            let found = Frame::decode(&encoded, session, position);
            prop_assert_eq!(found.is_ok(), same);
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = decode(&bytes);
    }
}

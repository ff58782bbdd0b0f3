//! A slow, obvious second decoder of batches, to compare the real one with.
//!
//! Written from the format alone, one field after the other, copying everything. It shares with the
//! real one only the libraries for gzip and zstd; snappy and lz4 have decoders of their own here.

use millstream_record::compression::{self, Compression};

/// A decoded batch. Numbers are as on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The offset that the records' deltas count from.
    pub base_offset: i64,
    /// The epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// The attribute bits.
    pub attributes: u16,
    /// The last offset less the base.
    pub last_offset_delta: i32,
    /// What the records' timestamps count from.
    pub base_timestamp: i64,
    /// As the header has it.
    pub max_timestamp: i64,
    /// Producer id, epoch and base sequence.
    pub producer: (i64, i16, i32),
    /// All records.
    pub records: Vec<Record>,
}

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// In milliseconds; the batch's under append time.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Vec<u8>>,
    /// Value, or null.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Why a batch was refused, in words.
pub type Refusal = &'static str;

/// Decodes one whole stored batch, strictly.
///
/// # Errors
///
/// What is wrong, in words.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Batch, Refusal> {
    let mut input = Input { bytes: bytes.to_vec() };
    let base_offset = i64::from_be_bytes(input.take()?);
    let length = i32::from_be_bytes(input.take()?);
    if usize::try_from(length) != Ok(input.bytes.len()) {
        return Err("length");
    }
    let leader_epoch = i32::from_be_bytes(input.take()?);
    if input.take()? != [2] {
        return Err("magic");
    }
    if u32::from_be_bytes(input.take()?) != crc32c(&input.bytes) {
        return Err("checksum");
    }
    let mut batch = Batch {
        base_offset,
        leader_epoch,
        attributes: u16::from_be_bytes(input.take()?),
        last_offset_delta: i32::from_be_bytes(input.take()?),
        base_timestamp: i64::from_be_bytes(input.take()?),
        max_timestamp: i64::from_be_bytes(input.take()?),
        producer: (
            i64::from_be_bytes(input.take()?),
            i16::from_be_bytes(input.take()?),
            i32::from_be_bytes(input.take()?),
        ),
        records: Vec::new(),
    };
    let count = i32::from_be_bytes(input.take()?);
    if batch.last_offset_delta < 0 || count < 0 {
        return Err("negative count");
    }
    if i64::from(count) > i64::from(batch.last_offset_delta) + 1 {
        return Err("more records than offsets");
    }
    let compressed = input.bytes;
    let records = match batch.attributes & 7 {
        1..=4 if compressed.is_empty() && count == 0 => compressed,
        0 => compressed,
        1 => compression::decompress(Compression::Gzip, &compressed, limit).map_err(|_| "gzip")?,
        2 => snappy(&compressed)?,
        3 => lz4(&compressed)?,
        4 => compression::decompress(Compression::Zstd, &compressed, limit).map_err(|_| "zstd")?,
        _ => return Err("no such compression"),
    };
    if records.len() > limit {
        return Err("too large");
    }
    let mut input = Input { bytes: records };
    let mut previous = -1;
    for _ in 0..count {
        let (delta, record) = record(&mut input, &batch)?;
        if delta <= previous || delta > i64::from(batch.last_offset_delta) {
            return Err("offset delta");
        }
        previous = delta;
        batch.records.push(record);
    }
    if !input.bytes.is_empty() {
        return Err("bytes after the last record");
    }
    Ok(batch)
}

fn record(input: &mut Input, batch: &Batch) -> Result<(i64, Record), Refusal> {
    let length = input.length()?.ok_or("negative record length")?;
    let mut body = Input { bytes: input.slice(length)? };
    let [_attributes] = body.take()?;
    let timestamp_delta = body.signed(64)?;
    let delta = body.signed(32)?;
    let append_time = batch.attributes & 8 != 0;
    let timestamp = match append_time {
        true => batch.max_timestamp,
        false => batch.base_timestamp.wrapping_add(timestamp_delta),
    };
    let offset = batch.base_offset.saturating_add(delta);
    let key = body.nullable()?;
    let value = body.nullable()?;
    let count = body.length()?.ok_or("negative header count")?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let key = body.nullable()?.ok_or("a header key is null")?;
        headers.push((key, body.nullable()?));
    }
    if !body.bytes.is_empty() {
        return Err("bytes after the headers");
    }
    Ok((delta, Record { offset, timestamp, key, value, headers }))
}

/// CRC32C, bit by bit.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// Snappy, raw or in xerial's framing.
fn snappy(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let magic = b"\x82SNAPPY\0";
    if !bytes.starts_with(magic) {
        return snappy_block(bytes);
    }
    let mut input = Input { bytes: bytes.to_vec() };
    let mut out = Vec::new();
    while !input.bytes.is_empty() {
        if input.bytes.starts_with(magic) {
            input.slice(16)?;
        } else {
            let length = i32::from_be_bytes(input.take()?);
            let length = usize::try_from(length).map_err(|_| "negative block length")?;
            out.extend(snappy_block(&input.slice(length)?)?);
        }
    }
    Ok(out)
}

fn snappy_block(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut input = Input { bytes: bytes.to_vec() };
    let size = input.unsigned(32)?;
    let mut out: Vec<u8> = Vec::new();
    while !input.bytes.is_empty() {
        let [tag] = input.take()?;
        let high = usize::from(tag >> 2);
        let (length, back) = match tag & 3 {
            0 => {
                let length = match high {
                    60..=63 => {
                        let bytes = input.slice(high - 59)?;
                        bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
                    }
                    _ => high,
                };
                out.extend(input.slice(length + 1)?);
                continue;
            }
            1 => {
                let [low] = input.take()?;
                (4 + (high & 7), usize::from(tag >> 5) << 8 | usize::from(low))
            }
            2 => (high + 1, usize::from(u16::from_le_bytes(input.take()?))),
            _ => (high + 1, usize::try_from(u32::from_le_bytes(input.take()?)).unwrap()),
        };
        copy_back(&mut out, 0, length, back)?;
    }
    if u64::try_from(out.len()) != Ok(size) {
        return Err("snappy: wrong size");
    }
    Ok(out)
}

/// lz4 frames. The checksums are stepped over, not computed.
fn lz4(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut input = Input { bytes: bytes.to_vec() };
    let mut out = Vec::new();
    if bytes.is_empty() {
        return Err("lz4: no frame");
    }
    while !input.bytes.is_empty() {
        if u32::from_le_bytes(input.take()?) != 0x184d_2204 {
            return Err("lz4: magic");
        }
        let [flags, _block_size] = input.take()?;
        if flags & 0x08 != 0 {
            input.slice(8)?;
        }
        input.slice(1)?;
        let frame = out.len();
        loop {
            let size = u32::from_le_bytes(input.take()?);
            if size == 0 {
                break;
            }
            let block = input.slice(usize::try_from(size & 0x7fff_ffff).unwrap())?;
            if size >> 31 == 1 {
                out.extend(block);
            } else {
                let window = if flags & 0x20 == 0 { frame } else { out.len() };
                lz4_block(block, &mut out, window)?;
            }
            if flags & 0x10 != 0 {
                input.slice(4)?;
            }
        }
        if flags & 0x04 != 0 {
            input.slice(4)?;
        }
    }
    Ok(out)
}

fn lz4_block(block: Vec<u8>, out: &mut Vec<u8>, window: usize) -> Result<(), Refusal> {
    let mut input = Input { bytes: block };
    loop {
        let [token] = input.take()?;
        let literals = lz4_length(&mut input, usize::from(token >> 4))?;
        out.extend(input.slice(literals)?);
        if input.bytes.is_empty() {
            return Ok(());
        }
        let back = usize::from(u16::from_le_bytes(input.take()?));
        let length = lz4_length(&mut input, usize::from(token & 15))? + 4;
        copy_back(out, window, length, back)?;
    }
}

fn lz4_length(input: &mut Input, nibble: usize) -> Result<usize, Refusal> {
    let mut length = nibble;
    let mut more = nibble == 15;
    while more {
        let [byte] = input.take()?;
        length += usize::from(byte);
        more = byte == 255;
    }
    Ok(length)
}

fn copy_back(out: &mut Vec<u8>, from: usize, length: usize, back: usize) -> Result<(), Refusal> {
    if back == 0 || back > out.len() - from {
        return Err("a copy from before the start");
    }
    for _ in 0..length {
        out.push(out[out.len() - back]);
    }
    Ok(())
}

struct Input {
    bytes: Vec<u8>,
}

impl Input {
    fn slice(&mut self, length: usize) -> Result<Vec<u8>, Refusal> {
        if length > self.bytes.len() {
            return Err("too short");
        }
        let rest = self.bytes.split_off(length);
        Ok(std::mem::replace(&mut self.bytes, rest))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        Ok(self.slice(N)?.try_into().unwrap())
    }

    /// Base 128, least significant group first.
    fn unsigned(&mut self, bits: u32) -> Result<u64, Refusal> {
        let mut value: u128 = 0;
        for shift in (0..bits).step_by(7) {
            let [byte] = self.take()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if value >> bits == 0 {
                    Ok(u64::try_from(value).unwrap())
                } else {
                    Err("a varint that doesn't fit")
                };
            }
        }
        Err("a varint that doesn't end")
    }

    /// Zigzag.
    fn signed(&mut self, bits: u32) -> Result<i64, Refusal> {
        let value = i128::from(self.unsigned(bits)?);
        let signed = if value % 2 == 0 { value / 2 } else { -(value + 1) / 2 };
        Ok(i64::try_from(signed).unwrap())
    }

    fn length(&mut self) -> Result<Option<usize>, Refusal> {
        match self.signed(32)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| "negative length"),
        }
    }

    fn nullable(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        match self.length()? {
            None => Ok(None),
            Some(length) => self.slice(length).map(Some),
        }
    }
}

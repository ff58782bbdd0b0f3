//! From where: an address, a network (KIP-1276), or everywhere.

use std::net::IpAddr;
use std::sync::Arc;

use super::EVERY;

/// From where a rule holds. Keeps how it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    text: Arc<str>,
    net: Net,
}

/// Addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Net {
    /// All.
    Every,
    /// Those that begin with the first `bits` bits of `first`.
    Of { first: IpAddr, bits: u32 },
}

impl Host {
    /// Reads `*`, an address, or `address/bits`; `None` for anything else.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Some(Self { text: Arc::from(text), net: Net::new(text)? })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn net(&self) -> Net {
        self.net
    }
}

impl Net {
    fn new(text: &str) -> Option<Self> {
        if text == EVERY {
            return Some(Self::Every);
        }
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let written: IpAddr = address.parse().ok()?;
        let first = written.to_canonical();
        let width = width(first);
        let Some(bits) = bits else { return Some(Self::Of { first, bits: width }) };
        if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // Addresses of IPv4 that are written in IPv6's way have 96 bits before them.
        let bits = bits.parse::<u32>().ok()?.checked_sub(self::width(written) - width)?;
        (bits <= width).then_some(Self::Of { first, bits })
    }

    /// Whether it holds for whoever connects from `address`; clients in this process have none.
    pub(super) fn holds(self, address: Option<IpAddr>) -> bool {
        match (self, address.map(|address| address.to_canonical())) {
            (Self::Every, _) => true,
            (Self::Of { .. }, None) => false,
            (Self::Of { first: IpAddr::V4(first), bits }, Some(IpAddr::V4(address))) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(u32::BITS - bits).unwrap_or(0) == 0
            }
            (Self::Of { first: IpAddr::V6(first), bits }, Some(IpAddr::V6(address))) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(u128::BITS - bits).unwrap_or(0) == 0
            }
            (Self::Of { .. }, Some(_)) => false,
        }
    }
}

const fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

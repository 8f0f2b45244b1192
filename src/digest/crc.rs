//! The three CRCs of S3, and the CRC of two pieces joined from the CRCs of the pieces.
//!
//! The bytes go through `crc-fast`. Its own `checksum_combine` squares bit matrices for every part: 10,000 parts
//! would hold a core for a third of a second. Here a part costs one multiplication of polynomials, as parts have one length.

use crc_fast::{CrcAlgorithm, Digest};

/// Which CRC. All three are reflected, and start from and end with an inversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crc {
    Crc32,
    Crc32c,
    Crc64Nvme,
}

impl Crc {
    pub(super) fn start(self) -> u64 {
        Digest::new(self.algorithm()).get_state()
    }

    /// `state` after `bytes`. Only the state is kept between calls: the crate's digest carries its tables' keys, 200 bytes.
    pub(super) fn update(self, state: u64, bytes: &[u8]) -> u64 {
        let mut digest = Digest::new_with_init_state(self.algorithm(), state);
        digest.update(bytes);
        digest.get_state()
    }

    pub(super) fn finish(self, state: u64) -> u64 {
        Digest::new_with_init_state(self.algorithm(), state).finalize()
    }

    /// Joins pieces; starts with none.
    pub(super) fn joiner(self) -> Joiner {
        Joiner { crc: self, joined: 0, last_length: 0, last_shift: self.one() }
    }

    fn algorithm(self) -> CrcAlgorithm {
        match self {
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
            Self::Crc32c => CrcAlgorithm::Crc32Iscsi,
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
        }
    }

    /// The polynomial without its highest term, the coefficient of x^0 in the highest bit.
    fn polynomial(self) -> u64 {
        match self {
            Self::Crc32 => 0xedb8_8320,
            Self::Crc32c => 0x82f6_3b78,
            Self::Crc64Nvme => 0x9a6c_9329_ac4b_c9b5,
        }
    }

    /// The polynomial 1.
    fn one(self) -> u64 {
        match self {
            Self::Crc32 | Self::Crc32c => 1 << 31,
            Self::Crc64Nvme => 1 << 63,
        }
    }

    /// `a * b` modulo the polynomial.
    fn multiply(self, a: u64, mut b: u64) -> u64 {
        let mut product = 0;
        let mut term = self.one();
        while term != 0 {
            if a & term != 0 {
                product ^= b;
            }
            term >>= 1;
            b = b >> 1 ^ if b & 1 == 1 { self.polynomial() } else { 0 };
        }
        product
    }

    /// x^(8 * `length`): what `length` bytes behind a piece multiply its CRC by.
    fn shift(self, mut length: u64) -> u64 {
        let mut shift = self.one();
        let mut power = self.one() >> 8;
        while length != 0 {
            if length & 1 == 1 {
                shift = self.multiply(shift, power);
            }
            power = self.multiply(power, power);
            length >>= 1;
        }
        shift
    }
}

/// The CRC of the pieces so far.
#[derive(Debug)]
pub(super) struct Joiner {
    crc: Crc,
    joined: u64,
    last_length: u64,
    last_shift: u64,
}

impl Joiner {
    /// Adds a piece by its CRC and its length in bytes.
    pub(super) fn append(&mut self, crc: u64, length: u64) {
        if length != self.last_length {
            self.last_length = length;
            self.last_shift = self.crc.shift(length);
        }
        // The inversions at start and end cancel out, and the CRC of nothing is 0.
        self.joined = self.crc.multiply(self.joined, self.last_shift) ^ crc;
    }

    /// The CRC of all pieces one after the other.
    pub(super) fn crc(&self) -> u64 {
        self.joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joining_agrees_with_the_crate_at_any_length(first in any::<u64>(), second in any::<u64>(), length in 0..1u64 << 43) {
            for crc in [Crc::Crc32, Crc::Crc32c, Crc::Crc64Nvme] {
                let mask = crc.one() | (crc.one() - 1);
                let mut joiner = crc.joiner();
                joiner.append(first & mask, 1);
                joiner.append(second & mask, length);
                let expected = crc_fast::checksum_combine(crc.algorithm(), first & mask, second & mask, length);
                prop_assert_eq!(joiner.crc(), expected);
            }
        }
    }
}

//! Finite-field Diffie-Hellman parameters for TLS 1.2: from a PEM file or a group of RFC 7919.

use openssl::bn::BigNum;
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::pkey::Params;

use crate::config::{DH_GROUPS, DhParam};

/// Below this DHE is weaker than everything else we negotiate (RFC 9325 §4.5).
const BITS_MIN: i32 = 2048;

/// Above this one handshake costs the server tens of milliseconds, and OpenSSL refuses soon after.
const BITS_MAX: i32 = 8192;

/// The groups of RFC 7919 Appendix A: name, bits, and the number called X in its definition.
const GROUPS: [(&str, i32, u32); 5] = [
    ("ffdhe2048", 2048, 560_316),
    ("ffdhe3072", 3072, 2_625_351),
    ("ffdhe4096", 4096, 5_736_041),
    ("ffdhe6144", 6144, 15_705_020),
    ("ffdhe8192", 8192, 10_965_728),
];

/// Checked parameters, and what to call them in a log line.
pub(super) struct DhGroup {
    pub params: Dh<Params>,
    /// "ffdhe2048", or "DH-2048" for parameters of one's own.
    pub label: String,
}

/// Reads, or computes, and checks the parameters. The error is a sentence for people.
pub(super) fn load(source: &DhParam) -> Result<DhGroup, String> {
    match source {
        DhParam::Named(name) => named(name),
        DhParam::File(path) => {
            let pem = std::fs::read(path)
                .map_err(|e| format!("dhparam file {} cannot be read: {e}", path.display()))?;
            from_pem(&pem).map_err(|e| format!("dhparam file {}: {e}", path.display()))
        }
    }
}

fn named(name: &str) -> Result<DhGroup, String> {
    let Some(&(label, bits, x)) = GROUPS.iter().find(|(known, ..)| *known == name) else {
        return Err(format!(
            "dhparam = \"{name}\" is neither a file nor a group of RFC 7919; the groups are {}",
            DH_GROUPS.join(", ")
        ));
    };
    let params = prime(bits, x)
        .and_then(|p| Dh::from_pqg(p, None, BigNum::from_u32(2)?))
        .map_err(|e| format!("dhparam = \"{name}\": OpenSSL cannot use it: {e}"))?;
    Ok(DhGroup {
        params,
        label: label.to_owned(),
    })
}

fn from_pem(pem: &[u8]) -> Result<DhGroup, String> {
    let params = Dh::params_from_pem(pem).map_err(|_| {
        "holds no Diffie-Hellman parameters in PEM (\"-----BEGIN DH PARAMETERS-----\"); \
         make them with \"openssl dhparam -out FILE 3072\", or name a group of RFC 7919 instead: \
         dhparam = \"ffdhe3072\""
            .to_owned()
    })?;
    let bits = params.prime_p().num_bits();
    if bits < BITS_MIN {
        return Err(format!(
            "parameters of {bits} bits are too weak, {BITS_MIN} are the least; make new ones with \
             \"openssl dhparam -out FILE 3072\", or name a group of RFC 7919 instead: \
             dhparam = \"ffdhe3072\""
        ));
    }
    if bits > BITS_MAX {
        return Err(format!(
            "parameters of {bits} bits would make each handshake too costly, {BITS_MAX} are the most"
        ));
    }
    // The check is of the prime and the generator. A prime that an attacker made composite
    // would give him every session.
    if !params.check_key().unwrap_or(false) {
        return Err(
            "the parameters are unsafe (no safe prime, or a bad generator); make new ones with \
             \"openssl dhparam -out FILE 3072\""
                .to_owned(),
        );
    }
    let known = GROUPS.iter().find(|(_, group_bits, x)| {
        *group_bits == bits && prime(bits, *x).is_ok_and(|p| p.ucmp(params.prime_p()).is_eq())
    });
    let label = known.map_or_else(|| format!("DH-{bits}"), |(name, ..)| (*name).to_owned());
    Ok(DhGroup { params, label })
}

/// `2^b - 2^(b-64) + ([2^(b-130) e] + X) 2^64 - 1` (RFC 7919 Appendix A). Computed, because five
/// primes as digits would be 3 KiB that nobody can check by reading.
fn prime(bits: i32, x: u32) -> Result<BigNum, ErrorStack> {
    // The 970 divisions at most that make e each lose less than the last bit: 64 more bits than
    // asked for keep that away from the result.
    const GUARD_BITS: i32 = 64;
    let mut term = BigNum::new()?;
    term.set_bit(bits - 130 + GUARD_BITS)?;
    let mut e = term.to_owned()?;
    let mut k = 1;
    while term.num_bits() > 0 {
        term.div_word(k)?;
        e = &e + &term;
        k += 1;
    }
    let mut middle = BigNum::new()?;
    middle.rshift(&e, GUARD_BITS)?;
    middle.add_word(x)?;
    let mut shifted = BigNum::new()?;
    shifted.lshift(&middle, 64)?;
    let (mut top, mut below_top) = (BigNum::new()?, BigNum::new()?);
    top.set_bit(bits)?;
    below_top.set_bit(bits - 64)?;
    let mut p = &(&top - &below_top) + &shifted;
    p.sub_word(1)?;
    Ok(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(name: &str) -> String {
        named(name)
            .unwrap()
            .params
            .prime_p()
            .to_hex_str()
            .unwrap()
            .to_string()
    }

    // RFC 7919 Appendix A.1 to A.5: first and last words of each prime as printed there.
    #[test]
    fn named_groups_are_the_primes_that_rfc_7919_prints() {
        for (name, tail) in [
            ("ffdhe2048", "C1B2EFFA886B423861285C97FFFFFFFFFFFFFFFF"),
            ("ffdhe3072", "3FD59D7C25E41D2B66C62E37FFFFFFFFFFFFFFFF"),
            ("ffdhe4096", "F44182E1C68A007E5E655F6AFFFFFFFFFFFFFFFF"),
            ("ffdhe6144", "7938DAD4A40E329CD0E40E65FFFFFFFFFFFFFFFF"),
            ("ffdhe8192", "838FF88CD68C8BB7C5C6424CFFFFFFFFFFFFFFFF"),
        ] {
            let hex = hex(name);
            assert!(
                hex.starts_with("FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1"),
                "{name}"
            );
            assert!(
                hex.ends_with(tail),
                "{name} ends in {}",
                &hex[hex.len() - 48..]
            );
        }
    }

    #[test]
    fn every_name_that_the_configuration_takes_is_a_group() {
        for name in DH_GROUPS {
            assert_eq!(named(name).unwrap().label, name);
        }
    }

    #[test]
    fn an_unknown_group_is_refused_with_the_known_ones() {
        let text = load(&DhParam::Named("ffdhe1024")).err().unwrap();
        assert!(
            text.contains("ffdhe1024") && text.contains("ffdhe3072"),
            "{text}"
        );
    }

    // RFC 9325 §4.5.
    #[test]
    fn parameters_below_2048_bits_are_refused() {
        let pem = Dh::get_1024_160().unwrap().params_to_pem().unwrap();
        let text = from_pem(&pem).err().unwrap();
        assert!(text.contains("1024 bits are too weak"), "{text}");
    }

    #[test]
    fn a_file_with_a_composite_modulus_is_refused() {
        let mut p = named("ffdhe2048")
            .unwrap()
            .params
            .prime_p()
            .to_owned()
            .unwrap();
        p.sub_word(2).unwrap();
        let pem = Dh::from_pqg(p, None, BigNum::from_u32(2).unwrap())
            .unwrap()
            .params_to_pem()
            .unwrap();
        let text = from_pem(&pem).err().unwrap();
        assert!(text.contains("unsafe"), "{text}");
    }

    #[test]
    fn a_file_with_a_named_group_is_called_by_its_name() {
        let pem = named("ffdhe2048").unwrap().params.params_to_pem().unwrap();
        assert_eq!(from_pem(&pem).unwrap().label, "ffdhe2048");
    }

    #[test]
    fn a_file_without_parameters_says_how_to_make_them() {
        let text = from_pem(b"hello").err().unwrap();
        assert!(text.contains("openssl dhparam"), "{text}");
    }
}

//! The server's side of SCRAM (RFC 5802, RFC 7677), for any protocol that carries it. Channel binding is not offered.
//!
//! ```text
//! client-first ──► Exchange::begin ── keys of the user ──► challenge ──► client-final ──► finish ──► server-final
//! ```

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use trivium_core::{Now, ScramHash, ScramKeys, Text};

/// A message of the exchange at most; a longer one is not parsed.
const MESSAGE_MAX: usize = 4096;
/// What a user that is not there seems to have.
const ITERATIONS: u32 = 4096;

/// Where nonces come from: a secret of this process.
pub type Secret = [u8; 32];

/// One login under way.
#[derive(Debug)]
pub struct Exchange {
    hash: ScramHash,
    user: Text,
    /// In base64, as the client must send it again.
    binding: String,
    first_bare: String,
    nonce: String,
    server_first: String,
    /// `None` until they are found, or when the user has none.
    keys: Option<ScramKeys>,
    salt: Vec<u8>,
}

/// The mechanism of that name.
pub fn mechanism(name: &str) -> Option<ScramHash> {
    match name {
        "SCRAM-SHA-256" => Some(ScramHash::Sha256),
        "SCRAM-SHA-512" => Some(ScramHash::Sha512),
        _ => None,
    }
}

impl Exchange {
    /// Takes the client's first message; `None` when it is not one that can be served.
    pub fn begin(hash: ScramHash, message: &[u8], secret: &Secret, now: Now) -> Option<Exchange> {
        let text = std::str::from_utf8(message)
            .ok()
            .filter(|text| text.len() <= MESSAGE_MAX)?;
        let mut parts = text.splitn(3, ',');
        let (flag, authority, bare) = (parts.next()?, parts.next()?, parts.next()?);
        // No channel binding, and nobody acts as another.
        if !matches!(flag, "n" | "y") || !authority.is_empty() {
            return None;
        }
        let mut fields = bare.split(',');
        let user = fields.next()?.strip_prefix("n=")?;
        let client_nonce = fields
            .next()?
            .strip_prefix("r=")
            .filter(|nonce| !nonce.is_empty())?;
        let unique = format!("{}:{:?}:{bare}", now.wall.0, now.instant);
        let own = mac(ScramHash::Sha256, secret, unique.as_bytes());
        let salt = mac(ScramHash::Sha256, secret, user.as_bytes());
        Some(Exchange {
            hash,
            user: user.replace("=2C", ",").replace("=3D", "=").into(),
            binding: STANDARD.encode(format!("{flag},,")),
            first_bare: bare.to_owned(),
            nonce: format!("{client_nonce}{}", STANDARD.encode(&own[..18])),
            server_first: String::new(),
            keys: None,
            salt: salt[..16].to_vec(),
        })
    }

    /// Who wants in.
    pub fn user(&self) -> &Text {
        &self.user
    }

    /// The mechanism's hash.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The server's first message. A user without keys gets one as well, and fails at the end.
    pub fn challenge(&mut self, keys: Option<ScramKeys>) -> Bytes {
        let (salt, iterations) = match &keys {
            Some(keys) => (STANDARD.encode(&keys.salt), keys.iterations),
            None => (STANDARD.encode(&self.salt), ITERATIONS),
        };
        self.server_first = format!("r={},s={salt},i={iterations}", self.nonce);
        self.keys = keys;
        Bytes::from(self.server_first.clone())
    }

    /// Takes the client's proof; the server's, when it is right.
    pub fn finish(self, message: &[u8]) -> Option<Bytes> {
        let text = std::str::from_utf8(message)
            .ok()
            .filter(|text| text.len() <= MESSAGE_MAX)?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut fields = without_proof.split(',');
        let same_binding = fields.next()?.strip_prefix("c=")? == self.binding;
        let same_nonce = fields.next()?.strip_prefix("r=")? == self.nonce;
        let proof = STANDARD.decode(proof).ok()?;
        let keys = self.keys.filter(|_| same_binding && same_nonce)?;
        let signed = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let signature = mac(self.hash, &keys.stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return None;
        }
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if !same(&digest(self.hash, &key), &keys.stored_key) {
            return None;
        }
        let signature = mac(self.hash, &keys.server_key, signed.as_bytes());
        Some(Bytes::from(format!("v={}", STANDARD.encode(signature))))
    }
}

/// In a time that does not depend on where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).map(|(a, b)| a ^ b);
    one.len() == other.len() && black_box(differences.fold(0, |all, one| all | one)) == 0
}

fn digest(hash: ScramHash, bytes: &[u8]) -> Vec<u8> {
    match hash {
        ScramHash::Sha256 => Sha256::digest(bytes).to_vec(),
        ScramHash::Sha512 => Sha512::digest(bytes).to_vec(),
    }
}

fn mac(hash: ScramHash, key: &[u8], bytes: &[u8]) -> Vec<u8> {
    fn keyed<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
        let mut mac = M::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(bytes);
        mac.finalize().into_bytes().to_vec()
    }
    match hash {
        ScramHash::Sha256 => keyed::<Hmac<Sha256>>(key, bytes),
        ScramHash::Sha512 => keyed::<Hmac<Sha512>>(key, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3, with the server's part of the nonce put in place.
    fn example() -> Exchange {
        let keys = |text: &str| Bytes::from(STANDARD.decode(text).unwrap_or_default());
        let mut exchange = Exchange {
            hash: ScramHash::Sha256,
            user: "user".into(),
            binding: "biws".into(),
            first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
            server_first: String::new(),
            keys: None,
            salt: vec![0; 16],
        };
        let first = exchange.challenge(Some(ScramKeys {
            salt: keys("W22ZaJ0SNY7soEsUEjb6gQ=="),
            iterations: 4096,
            stored_key: keys("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="),
            server_key: keys("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
        }));
        let wanted = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(first, wanted);
        exchange
    }

    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn rfc7677_3_the_example_of_the_specification() {
        let answer = example().finish(FINAL.as_bytes());
        assert_eq!(
            answer.as_deref(),
            Some(&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="[..])
        );
    }

    #[test]
    fn what_differs_is_refused() {
        for (from, to) in [
            ("c=biws", "c=eSws"),
            ("%hvYD", "%hvYE"),
            ("p=dHzb", "p=dHzc"),
            ("p=dHzb", "p="),
            (",p=", ",q="),
        ] {
            let message = FINAL.replacen(from, to, 1);
            assert_eq!(example().finish(message.as_bytes()), None, "{message}");
        }
    }
}

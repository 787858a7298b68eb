//! Proofs of identity as they are kept: RabbitMQ's salted password hashes, and the salted keys of SCRAM
//! (RFC 5802 section 3), which are filled whenever a password is set in plain.

use std::hint::black_box;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use uuid::Uuid;

/// Bytes of salt in front of a stored hash.
const SALT: usize = 4;

/// What RFC 7677 section 4 asks for at least, and what Kafka does.
const ITERATIONS: u32 = 4096;

/// How a password was hashed. The names are those of RabbitMQ's definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `rabbit_password_hashing_sha256`
    #[default]
    Sha256,
    /// `rabbit_password_hashing_sha512`
    Sha512,
    /// `rabbit_password_hashing_md5`: of brokers before 3.6, for import only.
    Md5,
}

impl HashAlgorithm {
    const ALL: [(HashAlgorithm, &'static str); 3] = [
        (HashAlgorithm::Sha256, "rabbit_password_hashing_sha256"),
        (HashAlgorithm::Sha512, "rabbit_password_hashing_sha512"),
        (HashAlgorithm::Md5, "rabbit_password_hashing_md5"),
    ];

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<HashAlgorithm> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(algorithm, _)| *algorithm)
    }

    /// Its name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha256 => Self::ALL[0].1,
            HashAlgorithm::Sha512 => Self::ALL[1].1,
            HashAlgorithm::Md5 => Self::ALL[2].1,
        }
    }

    fn digest(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        fn salted<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
            D::new()
                .chain_update(salt)
                .chain_update(password)
                .finalize()
                .to_vec()
        }
        match self {
            HashAlgorithm::Sha256 => salted::<Sha256>(salt, password),
            HashAlgorithm::Sha512 => salted::<Sha512>(salt, password),
            HashAlgorithm::Md5 => salted::<Md5>(salt, password),
        }
    }

    fn length(self) -> usize {
        match self {
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha512 => 64,
            HashAlgorithm::Md5 => 16,
        }
    }
}

/// A password as it is kept: four bytes of salt, then the hash of the salt and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashAlgorithm,
    salted: Bytes,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PasswordHash({})", self.algorithm.name())
    }
}

impl PasswordHash {
    /// A hash that was made elsewhere; `None` when its length is not the algorithm's.
    pub fn new(algorithm: HashAlgorithm, salted: Bytes) -> Option<PasswordHash> {
        (salted.len() == SALT + algorithm.length()).then_some(PasswordHash { algorithm, salted })
    }

    /// Hashes a password with a fresh salt.
    pub fn of(password: &[u8]) -> PasswordHash {
        let salt = Uuid::new_v4().into_bytes();
        PasswordHash::with_salt(&salt[..SALT], password)
    }

    pub(super) fn with_salt(salt: &[u8], password: &[u8]) -> PasswordHash {
        let algorithm = HashAlgorithm::default();
        let mut salted = salt.to_vec();
        salted.extend(algorithm.digest(salt, password));
        PasswordHash {
            algorithm,
            salted: salted.into(),
        }
    }

    /// How it was made.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Salt and hash, as definitions carry them in base64.
    pub fn salted(&self) -> &Bytes {
        &self.salted
    }

    /// Whether it is of this password, in a time that does not depend on where they differ.
    pub fn verify(&self, password: &[u8]) -> bool {
        let (salt, expected) = self.salted.split_at(SALT);
        let offered = self.algorithm.digest(salt, password);
        let differences = expected.iter().zip(&offered).map(|(a, b)| a ^ b);
        black_box(differences.fold(0, |all, one| all | one)) == 0
    }
}

/// The hash function of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// What a server knows of a password for one SCRAM mechanism (RFC 5802 section 3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Sent to the client.
    pub salt: Bytes,
    /// Sent to the client.
    pub iterations: u32,
    /// The hash of the client's key.
    pub stored_key: Bytes,
    /// Proves that the server knows the password too.
    pub server_key: Bytes,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScramKeys({} iterations)", self.iterations)
    }
}

/// A user's keys for both mechanisms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scram {
    pub(crate) sha256: ScramKeys,
    pub(crate) sha512: ScramKeys,
}

impl Scram {
    pub(super) fn of(password: &[u8]) -> Scram {
        Scram::with_salt(&Uuid::new_v4().into_bytes(), password)
    }

    pub(super) fn with_salt(salt: &[u8], password: &[u8]) -> Scram {
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, ITERATIONS, &mut salted);
        let sha256 = keys(salt, |text| {
            let key = mac::<Hmac<Sha256>>(&salted, text);
            (key.clone(), Sha256::digest(&key).to_vec())
        });
        let mut salted = [0; 64];
        pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, ITERATIONS, &mut salted);
        let sha512 = keys(salt, |text| {
            let key = mac::<Hmac<Sha512>>(&salted, text);
            (key.clone(), Sha512::digest(&key).to_vec())
        });
        Scram { sha256, sha512 }
    }

    pub(crate) fn keys(&self, hash: ScramHash) -> &ScramKeys {
        match hash {
            ScramHash::Sha256 => &self.sha256,
            ScramHash::Sha512 => &self.sha512,
        }
    }
}

/// `key` makes a key and its hash.
fn keys(salt: &[u8], key: impl Fn(&[u8]) -> (Vec<u8>, Vec<u8>)) -> ScramKeys {
    ScramKeys {
        salt: Bytes::copy_from_slice(salt),
        iterations: ITERATIONS,
        stored_key: key(b"Client Key").1.into(),
        server_key: key(b"Server Key").0.into(),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = M::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    /// The example of RabbitMQ's documentation of password hashes.
    #[test]
    fn hashes_are_rabbitmqs() {
        let salt = [0x90, 0x8d, 0xc6, 0x0a];
        let hash = PasswordHash::with_salt(&salt, b"test12");
        assert_eq!(
            STANDARD.encode(hash.salted()),
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        );
        assert!(hash.verify(b"test12"));
        assert!(!hash.verify(b"test1"));
        assert!(!hash.verify(b""));
    }

    #[test]
    fn every_algorithm_verifies_its_own_and_has_its_length() {
        for (algorithm, name) in HashAlgorithm::ALL {
            let mut salted = vec![1, 2, 3, 4];
            salted.extend(algorithm.digest(&[1, 2, 3, 4], b"secret"));
            let hash = PasswordHash::new(algorithm, salted.clone().into()).unwrap();
            assert!(hash.verify(b"secret") && !hash.verify(b"Secret"), "{name}");
            salted.pop();
            assert_eq!(PasswordHash::new(algorithm, salted.into()), None, "{name}");
            assert_eq!(HashAlgorithm::named(name), Some(algorithm));
        }
        assert_eq!(HashAlgorithm::named("plain"), None);
    }

    /// RFC 7677 section 3: user `user`, password `pencil`.
    #[test]
    fn scram_keys_prove_the_example_of_the_specification() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Scram::with_salt(&salt, b"pencil").sha256;
        let message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = mac::<Hmac<Sha256>>(&keys.server_key, message);
        assert_eq!(
            STANDARD.encode(signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let proof = STANDARD
            .decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
            .unwrap();
        let signature = mac::<Hmac<Sha256>>(&keys.stored_key, message);
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        assert_eq!(Sha256::digest(&client_key).to_vec(), keys.stored_key);
    }
}

//! Identities from PEM text and files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::identity::{Identity, IdentityError, IdentityWarning, sha256};
use crate::set::Entry;
use crate::unreadable;

/// The longest file that is read, in bytes.
pub(crate) const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// A piece of PEM.
#[derive(Clone, PartialEq, Eq)]
pub enum PemPart {
    /// Written out.
    Text(String),
    /// The content of a file.
    File(PathBuf),
}

impl std::fmt::Debug for PemPart {
    /// Never the text: it may be a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// PEM from pieces, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PemSource {
    /// The pieces.
    pub parts: Vec<PemPart>,
}

impl PemSource {
    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter_map(|part| match part {
            PemPart::File(path) => Some(path.as_path()),
            PemPart::Text(_) => None,
        })
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, LoadError> {
        let mut text = Zeroizing::new(Vec::new());
        for part in &self.parts {
            match part {
                PemPart::Text(words) => text.extend_from_slice(words.as_bytes()),
                PemPart::File(path) => text.extend_from_slice(&read_file(path)?),
            }
        }
        Ok(text)
    }
}

/// Where an identity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    /// Its name in the configuration.
    pub id: String,
    /// The certificate chain.
    pub chain: PemSource,
    /// The private key.
    pub key: PemSource,
    /// Names beyond those in the certificate.
    pub subjects: Vec<String>,
    /// Whether it is for clients that name no host, or one that no certificate has.
    pub default: bool,
}

impl CertificateSpec {
    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.chain.files().chain(self.key.files())
    }
}

/// Why an identity cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Owner, mode, the user we run as, and the command that repairs it.
        reason: String,
    },
    /// What was read is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What the files of a spec held at one moment.
pub(crate) struct Material {
    chain: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl Material {
    pub(crate) fn read(spec: &CertificateSpec) -> Result<Self, LoadError> {
        Ok(Self { chain: spec.chain.read()?, key: spec.key.read()? })
    }

    /// Tells one content from another.
    pub(crate) fn hash(&self) -> [u8; 32] {
        sha256(&[sha256(&self.chain), sha256(&self.key)].concat())
    }

    pub(crate) fn load(&self, spec: &CertificateSpec) -> Result<(Entry, Vec<IdentityWarning>), LoadError> {
        let (identity, mut warnings) = Identity::from_pem(&self.chain, &self.key, &spec.subjects)?;
        warnings.extend(spec.key.files().filter_map(unreadable::readable_by_others).map(|(path, mode)| {
            IdentityWarning::KeyReadableByOthers { path: path.display().to_string(), mode }
        }));
        let entry = Entry { id: spec.id.clone(), identity: Arc::new(identity), default: spec.default };
        Ok((entry, warnings))
    }
}

/// Reads an identity.
///
/// # Errors
///
/// [`LoadError`], with the cause and the remedy.
pub fn load(spec: &CertificateSpec) -> Result<(Entry, Vec<IdentityWarning>), LoadError> {
    Material::read(spec)?.load(spec)
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    use std::io::Read;
    let unreadable = |reason| LoadError::Unreadable { path: path.to_owned(), reason };
    let because = |error: std::io::Error| unreadable(unreadable::reason(path, &error));
    let metadata = std::fs::metadata(path).map_err(because)?;
    if metadata.is_dir() {
        return Err(unreadable("it is a directory; name the file in it".into()));
    }
    if !metadata.is_file() {
        return Err(unreadable("it is no regular file".into()));
    }
    let file = std::fs::File::open(path).map_err(because)?;
    // Room for all of it at once: a vector that grows leaves pieces of keys behind.
    let room = usize::try_from(metadata.len().min(MAX_PEM_BYTES)).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_PEM_BYTES + 1).read_to_end(&mut content).map_err(because)?;
    if content.len() as u64 > MAX_PEM_BYTES {
        return Err(unreadable(format!("it is longer than {MAX_PEM_BYTES} bytes")));
    }
    Ok(content)
}

//! Tenants: the owners of data. The id is what is stored; the name is what requests carry.

/// The owner of data, as stored in every batch, series key and segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TenantId(pub u32);

/// A tenant's name as sent in `X-Scope-OrgID`: 1 to 150 bytes of `[A-Za-z0-9!-_.*'()]`, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TenantName(String);

impl TenantName {
    /// The name used when a request carries none.
    pub const DEFAULT: &'static str = "anonymous";

    /// Checks and takes a name; the error says what is wrong with it.
    pub fn parse(name: &str) -> Result<TenantName, String> {
        if name.is_empty() || name.len() > 150 {
            return Err(format!("tenant name has {} bytes; allowed are 1 to 150", name.len()));
        }
        if name == "." || name == ".." {
            return Err("tenant name may not be '.' or '..'".to_owned());
        }
        match name.bytes().find(|b| !(b.is_ascii_alphanumeric() || b"!-_.*'()".contains(b))) {
            Some(b) => Err(format!("tenant name has an unsupported character {:?}", char::from(b))),
            None => Ok(TenantName(name.to_owned())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantName {
    fn default() -> TenantName {
        TenantName(Self::DEFAULT.to_owned())
    }
}

//! The platforms that images are made for.

use std::{env, fmt, str::FromStr};

/// A platform by the names that images, Debian and Rust have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Platform {
    /// `linux/amd64`.
    Amd64,
    /// `linux/arm64`.
    Arm64,
}

impl Platform {
    const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The one that this program runs on.
    pub(crate) fn host() -> Self {
        match env::consts::ARCH {
            "aarch64" => Self::Arm64,
            _ => Self::Amd64,
        }
    }

    pub(crate) fn is_host(self) -> bool {
        self == Self::host()
    }

    /// As images and Debian name the architecture.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's target.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What the names of GNU's cross tools begin with.
    pub(crate) fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// As Debian's names of packages have [`gnu`](Self::gnu).
    pub(super) fn debian_gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86-64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// QEMU's program that runs one of its programs.
    pub(crate) fn emulator(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-x86_64",
            Self::Arm64 => "qemu-aarch64",
        }
    }

    /// `e_machine` of its programs (ELF specification, and the psABI of each).
    pub(super) fn machine(self) -> u64 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture())
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|platform| platform.to_string() == text);
        found.ok_or_else(|| {
            let all = Self::ALL.map(|platform| platform.to_string());
            format!("images can be made for {}", all.join(" and "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_known_by_the_name_that_it_prints() {
        for platform in Platform::ALL {
            assert_eq!(platform.to_string().parse(), Ok(platform));
        }
        let said = "linux/riscv64".parse::<Platform>().unwrap_err();
        assert_eq!(said, "images can be made for linux/amd64 and linux/arm64");
    }
}

//! The list of what is in an image, as SPDX 2.3: Debian packages, crates, and Rust's standard library.
//!
//! Nothing in it depends on when or where it was made, except the date that [`Source`] knows.

use super::{
    archive::Image,
    catalogue::Recipe,
    crates::{Crate, Graph},
    debian::Package,
    source::Source,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, fs};

/// Describes an image.
pub(super) fn document(
    image: &Image,
    recipe: &Recipe,
    debian: &[&Package],
    graphs: &[Graph],
    source: &Source,
) -> Result<Vec<u8>> {
    const IMAGE: &str = "SPDXRef-image";
    let mut packages = vec![image_package(IMAGE, image, recipe, source)];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];

    let distribution = distribution();
    for package in debian {
        packages.push(debian_package(package, distribution.as_deref()));
        relations.push(relation(IMAGE, "CONTAINS", &debian_id(package)));
    }
    let mut crates: BTreeMap<String, &Crate> = BTreeMap::new();
    for graph in graphs {
        relations.push(relation(IMAGE, "CONTAINS", &crate_id(graph.root())));
        for (one, needs) in graph.edges() {
            relations.push(relation(&crate_id(one), "DEPENDS_ON", &crate_id(needs)));
        }
        crates.extend(graph.crates().map(|one| (crate_id(one), one)));
    }
    packages.extend(crates.values().map(|one| crate_package(one)));
    // A crate may be in several programs.
    relations.sort_by_cached_key(Value::to_string);
    relations.dedup();

    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image.reference,
        "documentNamespace": format!(
            "{}/spdx/{}-{}-{}", source.url, recipe.name, source.version, image.digest.replace(':', "-")
        ),
        "creationInfo": {
            "created": source.created(),
            "creators": [format!("Tool: cargo-xtask-image-{}", source.version)],
        },
        "packages": packages,
        "relationships": relations,
    });
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn image_package(id: &str, image: &Image, recipe: &Recipe, source: &Source) -> Value {
    let sha256 = image.digest.trim_start_matches("sha256:");
    let place = image.reference.rsplit_once(':').map_or("", |(place, _)| place);
    json!({
        "SPDXID": id,
        "name": image.reference,
        "versionInfo": source.version,
        "summary": recipe.description,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": env!("CARGO_PKG_LICENSE"),
        "copyrightText": "NOASSERTION",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": sha256 }],
        "externalRefs": [purl(&format!(
            "pkg:oci/{}@sha256%3A{sha256}?arch={}&repository_url={place}",
            recipe.name,
            image.platform.architecture(),
        ))],
    })
}

fn debian_package(package: &Package, distribution: Option<&str>) -> Value {
    let mut locator = format!(
        "pkg:deb/debian/{}@{}?arch={}",
        package.name,
        percent(&package.version),
        package.architecture
    );
    if let Some(distribution) = distribution {
        locator += &format!("&distro={distribution}");
    }
    let origin = package.source.as_deref().unwrap_or(&package.name);
    json!({
        "SPDXID": debian_id(package),
        "name": package.name,
        "versionInfo": package.version,
        "sourceInfo": format!("Debian's source package {origin}"),
        "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        // In words in the package's copyright file, which is in the image.
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": package.sha256 }],
        "externalRefs": [purl(&locator)],
    })
}

fn crate_package(one: &Crate) -> Value {
    let location = if one.from_registry {
        format!(
            "https://static.crates.io/crates/{0}/{0}-{1}.crate",
            one.name, one.version
        )
    } else {
        "NOASSERTION".to_owned()
    };
    json!({
        "SPDXID": crate_id(one),
        "name": one.name,
        "versionInfo": one.version,
        "downloadLocation": location,
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": one.license.as_deref().unwrap_or("NOASSERTION"),
        "copyrightText": "NOASSERTION",
        "externalRefs": [purl(&format!("pkg:cargo/{}@{}", one.name, percent(&one.version)))],
    })
}

fn purl(locator: &str) -> Value {
    json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator })
}

fn debian_id(package: &Package) -> String {
    identifier(&format!("debian-{}", package.name))
}

fn crate_id(one: &Crate) -> String {
    identifier(&format!("crate-{}-{}", one.name, one.version))
}

/// SPDX allows letters, digits, dots and hyphens.
fn identifier(text: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    let text: String = text
        .chars()
        .map(|letter| if allowed(letter) { letter } else { '-' })
        .collect();
    format!("SPDXRef-{text}")
}

/// Writes a version the way package URLs want it.
fn percent(version: &str) -> String {
    version.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// For example `debian-12`, by which scanners choose the list of known holes.
fn distribution() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    Some(format!("{}-{}", field("ID")?, field("VERSION_ID")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_written_as_spdx_and_package_urls_want_them() {
        assert_eq!(identifier("crate-serde_json-1.0+x"), "SPDXRef-crate-serde-json-1.0-x");
        assert_eq!(percent("1:2.36-9+deb12u14~x"), "1%3A2.36-9%2Bdeb12u14~x");
    }
}

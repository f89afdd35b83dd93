//! Who a client is, from the leaf of its **verified** certificate chain and nothing else.
//!
//! The tables and their order of precedence are the vehicle maker's, as the reference server has them.

use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;

/// What kind of device a certificate was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientType {
    /// A vehicle.
    VehicleDevice,
    /// A board inside a vehicle.
    VehicleBoardDevice,
    /// An energy product.
    EnergyDevice,
    /// A driver assistance computer.
    DasDevice,
    /// A service of the vehicle maker.
    VehicleService,
    /// A service of the vehicle maker.
    DasService,
    /// A service of the vehicle maker.
    EnergyService,
    /// A robot.
    RoboticsDevice,
    /// A solar inverter.
    SolarInverterDevice,
    /// A wall connector.
    WallConnectorDevice,
}

impl ClientType {
    /// The name that sender ids begin with.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::VehicleDevice => "vehicle_device",
            Self::VehicleBoardDevice => "vehicle_board_device",
            Self::EnergyDevice => "energy_device",
            Self::DasDevice => "das_device",
            Self::VehicleService => "vehicle_service",
            Self::DasService => "das_service",
            Self::EnergyService => "energy_service",
            Self::RoboticsDevice => "robotics_device",
            Self::SolarInverterDevice => "solar_inverter_device",
            Self::WallConnectorDevice => "wall_connector_device",
        }
    }
}

/// A client, as its certificate names it. Made only from a verified leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    client_type: ClientType,
    /// `<client type>.<device id>`
    sender_id: Box<str>,
}

impl Identity {
    /// `device_id` is the certificate's subject CN with every `.` replaced by `-`.
    #[must_use]
    pub fn new(client_type: ClientType, common_name: &str) -> Self {
        let device_id = common_name.replace('.', "-");
        Self { client_type, sender_id: format!("{}.{device_id}", client_type.label()).into() }
    }

    /// Reads the identity from the leaf (DER) of a verified chain.
    ///
    /// # Errors
    /// [`IdentityError`] says why the certificate is not one that may stream.
    pub fn from_verified_leaf(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, leaf) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unparsable)?;
        let names = Names::of(&leaf)?;
        Ok(Self::new(client_type(&names, &leaf)?, names.subject))
    }

    /// What kind of device it is.
    #[must_use]
    pub fn client_type(&self) -> ClientType {
        self.client_type
    }

    /// The VIN, for vehicles.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.sender_id[self.client_type.label().len() + 1..]
    }

    /// `<client type>.<device id>`, what the vehicle writes into its messages.
    #[must_use]
    pub fn sender_id(&self) -> &str {
        &self.sender_id
    }
}

/// Why a verified certificate is not a client's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(name(Unidentified), vis(pub(crate)), doc = "Its kind, as the metrics call it.")]
#[strum_discriminants(derive(IntoStaticStr, VariantArray), strum(serialize_all = "snake_case"))]
pub enum IdentityError {
    /// The TLS library verified it, our parser cannot read it.
    #[error("the client certificate cannot be parsed")]
    Unparsable,
    /// No subject or issuer CN, or one that is empty, longer than 256 bytes, not text or not printable.
    #[error("the client certificate has no usable {0} common name")]
    NoCommonName(&'static str),
    /// The issuer or the extended key usage is not in the tables.
    #[error("create_identity issuer: {issuer}, common_name: {subject}, err: unauthorized certificate")]
    Unauthorized {
        /// Issuer CN.
        issuer: String,
        /// Subject CN.
        subject: String,
    },
    /// An extended key usage that must not stream.
    #[error("create_identity issuer: {issuer}, common_name: {subject}, err: excluded certificate")]
    Excluded {
        /// Issuer CN.
        issuer: String,
        /// Subject CN.
        subject: String,
    },
}

/// The names that decide, borrowed from a certificate.
struct Names<'a> {
    subject: &'a str,
    issuer: &'a str,
    units: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(leaf: &'a X509Certificate<'_>) -> Result<Self, IdentityError> {
        let text = |cn: Option<&'a x509_parser::x509::AttributeTypeAndValue<'_>>| {
            cn.and_then(|cn| cn.as_str().ok()).filter(|cn| is_name(cn))
        };
        Ok(Self {
            subject: text(leaf.subject().iter_common_name().last()).ok_or(IdentityError::NoCommonName("subject"))?,
            issuer: text(leaf.issuer().iter_common_name().last()).ok_or(IdentityError::NoCommonName("issuer"))?,
            units: leaf.subject().iter_organizational_unit().filter_map(|unit| unit.as_str().ok()).collect(),
        })
    }

    fn unauthorized(&self) -> IdentityError {
        IdentityError::Unauthorized { issuer: self.issuer.to_owned(), subject: self.subject.to_owned() }
    }

    fn excluded(&self) -> IdentityError {
        IdentityError::Excluded { issuer: self.issuer.to_owned(), subject: self.subject.to_owned() }
    }
}

/// It becomes a key, a column and part of log lines, each of which may be somebody else's text.
fn is_name(common_name: &str) -> bool {
    /// RFC 5280 has 64.
    const MOST: usize = 256;
    (1..=MOST).contains(&common_name.len()) && !common_name.chars().any(char::is_control)
}

fn client_type(names: &Names<'_>, leaf: &X509Certificate<'_>) -> Result<ClientType, IdentityError> {
    if OID_ISSUERS.contains(&names.issuer) {
        return from_key_usage(names, leaf);
    }
    match names.issuer {
        "Tesla Motors Products CA" if names.units.first() == Some(&"Tesla Motors SN") => {
            Ok(ClientType::VehicleBoardDevice)
        }
        "TeslaMotors" | "Tesla Issuing CA" | "Tesla Motors Products CA" => Ok(ClientType::VehicleDevice),
        _ => Err(names.unauthorized()),
    }
}

/// An excluded usage refuses wherever it stands in the list; the reference refuses only when it comes first.
fn from_key_usage(names: &Names<'_>, leaf: &X509Certificate<'_>) -> Result<ClientType, IdentityError> {
    let usages = || {
        leaf.extensions()
            .iter()
            .filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::ExtendedKeyUsage(usage) => Some(usage.other.iter()),
                _ => None,
            })
            .flatten()
            .map(Oid::to_id_string)
    };
    if usages().any(|oid| oid == WIFI_EAP_CERTIFICATE) {
        return Err(names.excluded());
    }
    let by_usage = usages().find_map(|oid| by_oid(&oid)).ok_or_else(|| names.unauthorized())?;
    let by_unit = names.units.iter().find_map(|unit| match *unit {
        "Solar Inverter" => Some(ClientType::SolarInverterDevice),
        "Gen3 Wall Connector" => Some(ClientType::WallConnectorDevice),
        _ => None,
    });
    Ok(by_unit.unwrap_or(by_usage))
}

/// Issuers whose certificates need one of the maker's own extended key usages.
const OID_ISSUERS: [&str; 15] = [
    "Tesla Motors Product Issuing CA",
    "Tesla Motors Product RSA Issuing CA",
    "Tesla Motors GF3 Product Issuing CA",
    "Tesla Motors GF3 Product RSA Issuing CA",
    "Tesla Energy Product Issuing CA",
    "Tesla Energy GF0 Product Issuing CA",
    "Tesla Motors GF0 Product Issuing CA",
    "Tesla Motors GF Austin Product Issuing CA",
    "Tesla Motors GF Berlin Product Issuing CA",
    "Tesla Product Access Issuing CA",
    "Tesla China Product Access Issuing CA",
    "Tesla GF0 Product Access Issuing CA",
    "Tesla GF3 Product Access Issuing CA",
    "Tesla GF Austin Product Access Issuing CA",
    "Tesla GF Berlin Product Access Issuing CA",
];

const WIFI_EAP_CERTIFICATE: &str = "1.3.6.1.4.1.49279.2.5.1.1";

/// The maker's extended key usages: arc 4 is engineering, arc 5 production; both are accepted.
fn by_oid(oid: &str) -> Option<ClientType> {
    let usage = oid.strip_prefix("1.3.6.1.4.1.49279.2.4.").or_else(|| oid.strip_prefix("1.3.6.1.4.1.49279.2.5."))?;
    Some(match usage {
        "1" => ClientType::VehicleDevice,
        "11" => ClientType::VehicleBoardDevice,
        "2" => ClientType::EnergyDevice,
        "12" => ClientType::DasDevice,
        "14" => ClientType::VehicleService,
        "15" => ClientType::DasService,
        "16" => ClientType::EnergyService,
        "28" => ClientType::RoboticsDevice,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};

    use super::*;

    /// A leaf as `issuer` would sign it, with key usages below the maker's arc.
    fn leaf(issuer: &str, common_name: &str, units: &[&str], usages: &[&[u64]]) -> Vec<u8> {
        let name = |common_name: &str, units: &[&str]| {
            let mut name = DistinguishedName::new();
            if !common_name.is_empty() {
                name.push(DnType::CommonName, common_name);
            }
            units.iter().for_each(|unit| name.push(DnType::OrganizationalUnitName, *unit));
            name
        };
        let mut authority = CertificateParams::default();
        authority.distinguished_name = name(issuer, &[]);
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name, units);
        params.extended_key_usages = usages
            .iter()
            .map(|usage| ExtendedKeyUsagePurpose::Other([&[1, 3, 6, 1, 4, 1, 49279, 2], *usage].concat()))
            .collect();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &Issuer::new(authority, KeyPair::generate().unwrap())).unwrap().der().to_vec()
    }

    fn sender(issuer: &str, units: &[&str], usages: &[&[u64]]) -> String {
        match Identity::from_verified_leaf(&leaf(issuer, "VIN.1", units, usages)) {
            Ok(identity) => identity.sender_id().to_owned(),
            Err(error) => <&str>::from(Unidentified::from(error)).to_owned(),
        }
    }

    #[test]
    fn plain_issuers_need_no_key_usage() {
        for issuer in ["TeslaMotors", "Tesla Issuing CA", "Tesla Motors Products CA"] {
            assert_eq!(sender(issuer, &[], &[]), "vehicle_device.VIN-1");
        }
        assert_eq!(sender("Tesla Motors Products CA", &["Tesla Motors SN"], &[]), "vehicle_board_device.VIN-1");
        assert_eq!(sender("TeslaMotors", &["Tesla Motors SN"], &[]), "vehicle_device.VIN-1");
        assert_eq!(sender("teslamotors", &[], &[]), "unauthorized");
        assert_eq!(sender("Tesla Root CA", &[], &[&[5, 1]]), "unauthorized");
    }

    #[test]
    fn every_issuer_of_the_newer_kind_goes_by_key_usage_in_both_environments() {
        for issuer in OID_ISSUERS {
            assert_eq!(sender(issuer, &[], &[&[5, 1]]), "vehicle_device.VIN-1", "{issuer}");
            assert_eq!(sender(issuer, &[], &[]), "unauthorized", "{issuer}");
        }
        for (arc, client) in [
            (1, "vehicle_device"),
            (11, "vehicle_board_device"),
            (2, "energy_device"),
            (12, "das_device"),
            (14, "vehicle_service"),
            (15, "das_service"),
            (16, "energy_service"),
            (28, "robotics_device"),
        ] {
            for environment in [4, 5] {
                let found = sender(OID_ISSUERS[0], &[], &[&[9, 9], &[environment, arc], &[5, 1]]);
                assert_eq!(found, format!("{client}.VIN-1"), "the first one that is known decides");
            }
        }
    }

    #[test]
    fn an_organisational_unit_overrides_the_key_usage() {
        let found = |units: &[&str]| sender(OID_ISSUERS[0], units, &[&[5, 2]]);
        assert_eq!(found(&["Solar Inverter"]), "solar_inverter_device.VIN-1");
        assert_eq!(found(&["Gen3 Wall Connector"]), "wall_connector_device.VIN-1");
        assert_eq!(found(&["Other"]), "energy_device.VIN-1");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(Identity::from_verified_leaf(b"nonsense"), Err(IdentityError::Unparsable));
        let nameless = leaf("TeslaMotors", "", &[], &[]);
        assert_eq!(Identity::from_verified_leaf(&nameless), Err(IdentityError::NoCommonName("subject")));
        for name in ["5YJ\0", "5YJ\n", "\u{1b}[2J", "5YJ\u{85}", &"5".repeat(257)] {
            let odd = leaf("TeslaMotors", name, &[], &[]);
            assert_eq!(Identity::from_verified_leaf(&odd), Err(IdentityError::NoCommonName("subject")), "{name:?}");
        }
        assert!(Identity::from_verified_leaf(&leaf("TeslaMotors", &"5".repeat(256), &[], &[])).is_ok());
    }
}

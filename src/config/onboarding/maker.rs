//! `onboarding.maker`: where the vehicle maker's services are. Defaults by region; every address is a setting, as they
//! have moved before and nobody has promised that they will not again.

use crate::config::error::Problems;
use crate::config::section::Section;

/// `onboarding.maker`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMaker {
    /// Of the API, one for each region.
    pub api_urls: Option<Vec<String>>,
    /// Consent.
    pub authorize_url: Option<String>,
    /// Tokens.
    pub token_url: Option<String>,
    /// The keys that tokens are signed with.
    pub keys_url: Option<String>,
    /// Who signs them.
    pub issuers: Option<Vec<String>>,
    /// Where an owner takes consent back.
    pub revoke_url: Option<String>,
    /// Where an owner pairs.
    pub pair_url: Option<String>,
    /// How the names of hosts end that may get a token.
    pub host_suffixes: Option<Vec<String>>,
    /// Signals for one dollar.
    pub signals_per_dollar: Option<i64>,
}

/// Where the vehicle maker's services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Of the API, one for each region that the application is registered in; the first is asked where an owner belongs.
    pub api_urls: Vec<String>,
    /// The page on which owners consent.
    pub authorize_url: String,
    /// Codes and refresh tokens become access tokens here.
    pub token_url: String,
    /// JWKS of the keys that access tokens are signed with.
    pub keys_url: String,
    /// `iss` of access tokens.
    pub issuers: Vec<String>,
    /// The page on which an owner takes consent back.
    pub revoke_url: String,
    /// The page that has the phone app pair, without the domain.
    pub pair_url: String,
    /// How the names of hosts end that may get a token: an answer that names another one is not followed.
    pub host_suffixes: Vec<String>,
    /// The price list.
    pub signals_per_dollar: u32,
}

impl FileMaker {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            api_urls: section.value("api_urls"),
            authorize_url: section.value("authorize_url"),
            token_url: section.value("token_url"),
            keys_url: section.value("keys_url"),
            issuers: section.value("issuers"),
            revoke_url: section.value("revoke_url"),
            pair_url: section.value("pair_url"),
            host_suffixes: section.value("host_suffixes"),
            signals_per_dollar: section.value("signals_per_dollar"),
        }
    }
}

/// What holds in a part of the world.
struct Region {
    api_url: &'static str,
    sign_in: &'static str,
    token_url: &'static str,
}

/// Everywhere but in China.
const ELSEWHERE: &str = "https://fleet-auth.prd.vn.cloud.tesla.com/oauth2/v3/token";

fn region(name: &str) -> Option<Region> {
    let (api_url, sign_in, token_url) = match name {
        "na" => ("https://fleet-api.prd.na.vn.cloud.tesla.com", "https://auth.tesla.com", ELSEWHERE),
        "eu" => ("https://fleet-api.prd.eu.vn.cloud.tesla.com", "https://auth.tesla.com", ELSEWHERE),
        "cn" => {
            let token_url = "https://auth.tesla.cn/oauth2/v3/token";
            ("https://fleet-api.prd.cn.vn.cloud.tesla.cn", "https://auth.tesla.cn", token_url)
        }
        _ => return None,
    };
    Some(Region { api_url, sign_in, token_url })
}

pub(super) fn resolve(section: &FileMaker, regions: Option<&[String]>, problems: &mut Problems) -> Maker {
    let north_america = ["na".to_owned()];
    let names = regions.filter(|names| !names.is_empty()).unwrap_or(&north_america);
    let known: Vec<Region> = names.iter().filter_map(|name| region(name)).collect();
    for (at, name) in names.iter().enumerate().filter(|(_, name)| region(name).is_none()) {
        problems.not_allowed(format!("onboarding.regions[{at}]"), name, "na, eu, cn");
    }
    let sign_in = known.first().map_or("https://auth.tesla.com", |region| region.sign_in);
    if known.iter().any(|region| region.sign_in != sign_in) {
        let only = "either cn or the others: China has accounts and an application of its own";
        problems.not_allowed("onboarding.regions", &names.join(", "), only);
    }
    let token_url = known.first().map_or(ELSEWHERE, |region| region.token_url);
    let url = |key: &str, value: &Option<String>, default: String, problems: &mut Problems| {
        let url = value.clone().unwrap_or(default);
        check_url(key, &url, problems);
        url.trim_end_matches('/').to_owned()
    };
    let api_urls = section.api_urls.clone().filter(|urls| !urls.is_empty());
    let api_urls = api_urls.unwrap_or_else(|| known.iter().map(|region| region.api_url.to_owned()).collect());
    for api_url in &api_urls {
        check_url("onboarding.maker.api_urls", api_url, problems);
    }
    let at = |path: &str| format!("{sign_in}{path}");
    Maker {
        api_urls: api_urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        authorize_url: url(
            "onboarding.maker.authorize_url",
            &section.authorize_url,
            at("/oauth2/v3/authorize"),
            problems,
        ),
        token_url: url("onboarding.maker.token_url", &section.token_url, token_url.to_owned(), problems),
        keys_url: url(
            "onboarding.maker.keys_url",
            &section.keys_url,
            at("/oauth2/v3/discovery/thirdparty/keys"),
            problems,
        ),
        // Clients in the field disagree about which of them it is.
        issuers: section.issuers.clone().unwrap_or_else(|| {
            let end = if sign_in.ends_with(".cn") { "cn" } else { "com" };
            vec![at("/oauth2/v3/nts"), format!("https://fleet-auth.tesla.{end}/oauth2/v3/nts")]
        }),
        revoke_url: url("onboarding.maker.revoke_url", &section.revoke_url, at("/user/revoke/consent"), problems),
        pair_url: url("onboarding.maker.pair_url", &section.pair_url, "https://tesla.com/_ak".to_owned(), problems),
        host_suffixes: section
            .host_suffixes
            .clone()
            .unwrap_or_else(|| [".tesla.com", ".tesla.cn", ".teslamotors.com"].map(str::to_owned).to_vec()),
        signals_per_dollar: problems.number(
            "onboarding.maker.signals_per_dollar",
            section.signals_per_dollar,
            1..=1_000_000_000,
            150_000,
        ),
    }
}

/// An `https` address, or one of this machine.
pub(super) fn check_url(key: &str, url: &str, problems: &mut Problems) {
    let parsed: Result<hyper::Uri, _> = url.parse();
    let is_good = parsed.is_ok_and(|uri| {
        let here = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        uri.query().is_none() && (uri.scheme_str() == Some("https") || (here && uri.scheme_str() == Some("http")))
    });
    if !is_good {
        problems.not_allowed(key, url, "addresses that begin with https:// (http:// only to this machine)");
    }
}

//! URL and text-decoding natives: the WHATWG parsers of the `url` and `encoding_rs` crates.
//!
//! In: strings and bytes from JavaScript. Out: parsed parts, decoded text. Invariant: pure.

use url::{Position, Url};

use super::{string, throw_type_error};

/// `(href, base?) → [href, protocol, username, password, host, hostname, port, pathname, search,
/// hash, origin] | null`.
pub(super) fn url_parse(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let href = args.get(0).to_rust_string_lossy(scope);
    let base = args.get(1);
    let parsed = if base.is_undefined() {
        Url::parse(&href)
    } else {
        let base = base.to_rust_string_lossy(scope);
        Url::parse(&base).and_then(|base| base.join(&href))
    };
    match parsed {
        Ok(url) => result.set(parts(scope, &url).into()),
        Err(_) => result.set_null(),
    }
}

/// `(href, part, value) → parts | null`: one setter of the URL class; null leaves the URL as it
/// was.
pub(super) fn url_set(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let href = args.get(0).to_rust_string_lossy(scope);
    let part = args.get(1).to_rust_string_lossy(scope);
    let value = args.get(2).to_rust_string_lossy(scope);
    let Ok(mut url) = Url::parse(&href) else {
        return result.set_null();
    };
    let done = match part.as_str() {
        "href" => Url::parse(&value).map(|new| url = new).map_err(|_| ()),
        "protocol" => url::quirks::set_protocol(&mut url, &value),
        "username" => url::quirks::set_username(&mut url, &value),
        "password" => url::quirks::set_password(&mut url, &value),
        "host" => url::quirks::set_host(&mut url, &value),
        "hostname" => url::quirks::set_hostname(&mut url, &value),
        "port" => url::quirks::set_port(&mut url, &value),
        "pathname" => {
            url::quirks::set_pathname(&mut url, &value);
            Ok(())
        }
        "search" => {
            url::quirks::set_search(&mut url, &value);
            Ok(())
        }
        "hash" => {
            url::quirks::set_hash(&mut url, &value);
            Ok(())
        }
        _ => Err(()),
    };
    match done {
        Ok(()) => result.set(parts(scope, &url).into()),
        Err(()) => result.set_null(),
    }
}

fn parts<'s>(scope: &mut v8::PinScope<'s, '_>, url: &Url) -> v8::Local<'s, v8::Array> {
    let origin = url::quirks::origin(url);
    let texts = [
        url.as_str(),
        url::quirks::protocol(url),
        url::quirks::username(url),
        url::quirks::password(url),
        &url[Position::BeforeHost..Position::AfterPort],
        url::quirks::hostname(url),
        url::quirks::port(url),
        url::quirks::pathname(url),
        url::quirks::search(url),
        url::quirks::hash(url),
        &origin,
    ];
    let values = texts.map(|text| string(scope, text).into());
    v8::Array::new_with_elements(scope, &values)
}

/// `(label) → canonical encoding name, lower case | null`.
pub(super) fn encoding_label(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let label = args.get(0).to_rust_string_lossy(scope);
    match encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()) {
        Some(encoding) => {
            let name = encoding.name().to_ascii_lowercase();
            result.set(string(scope, &name).into());
        }
        None => result.set_null(),
    }
}

/// `(label, bytes, fatal, ignoreBOM) → string`.
pub(super) fn decode(
    scope: &mut v8::PinScope<'_, '_>,
    args: v8::FunctionCallbackArguments<'_>,
    mut result: v8::ReturnValue<'_, v8::Value>,
) {
    let label = args.get(0).to_rust_string_lossy(scope);
    let Some(encoding) = encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()) else {
        return throw_type_error(scope, &format!("The encoding label {label:?} is invalid"));
    };
    let bytes = super::binary::bytes_of(args.get(1));
    let fatal = args.get(2).boolean_value(scope);
    let ignore_bom = args.get(3).boolean_value(scope);
    let (text, malformed) = if ignore_bom {
        encoding.decode_without_bom_handling(&bytes)
    } else {
        encoding.decode_with_bom_removal(&bytes)
    };
    if fatal && malformed {
        return throw_type_error(scope, "The encoded data was not valid for the encoding");
    }
    result.set(string(scope, &text).into());
}

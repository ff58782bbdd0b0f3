//! Requests and responses as they go over a connection.
//!
//! ```text
//! length  i32   bytes that follow it
//! header        RequestHeader v1 or v2 (flexible); ResponseHeader v0 or v1 (flexible)
//! body          the message in the version that the request's header names
//! ```

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError};
use crate::message::{Message, Request};
use crate::reader::Reader;
use crate::text::StrBytes;
use crate::writer::Writer;
use crate::{ApiKey, RequestHeader, ResponseHeader};

/// Reads the header of a request, in the header version that its API and version ask for.
///
/// A known API in an unknown version is no error: the header can be read all the same, and the
/// caller has to answer it (ApiVersions above all).
///
/// # Errors
///
/// [`DecodeError::UnknownApi`] when no [`ApiKey`] has the key; any other when the bytes are no
/// header.
pub fn decode_request_header(
    reader: &mut Reader<'_>,
) -> Result<(ApiKey, RequestHeader), DecodeError> {
    let (key, version) = reader.peek_api()?;
    let api = ApiKey::try_from(key).map_err(|_| DecodeError::UnknownApi { key, version })?;
    let header = RequestHeader::decode(reader, api.request_header_version(version))?;
    Ok((api, header))
}

/// A request with its header and the frame's length, in segments.
///
/// # Errors
///
/// Any [`EncodeError`].
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<StrBytes>,
) -> Result<Vec<Bytes>, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY,
        request_api_version: version,
        correlation_id,
        client_id,
    };
    let mut writer = Writer::framed();
    header.encode(&mut writer, R::request_header_version(version))?;
    request.encode(&mut writer, version)?;
    writer.finish()
}

/// The response to a request `R` with its header and the frame's length, in segments.
///
/// # Errors
///
/// Any [`EncodeError`].
pub fn encode_response<R: Request>(
    response: &R::Response,
    version: i16,
    correlation_id: i32,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::framed();
    let header = ResponseHeader { correlation_id };
    header.encode(&mut writer, R::response_header_version(version))?;
    response.encode(&mut writer, version)?;
    writer.finish()
}

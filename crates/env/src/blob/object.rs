//! Blobs as objects of a store that somebody else keeps alive.
//!
//! Only what every such store does right is asked for: create-if-absent, get with ranges, list,
//! delete. Objects are named `<root>/<name>.blob`, as the files of the local store are, so that a
//! blob whose name is a folder of others is no problem anywhere.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};

use super::{BlobError, BlobName, BlobStore, Created};

const SUFFIX: &str = ".blob";

/// The size of one part of a large upload in bytes. S3 wants at least 5 MiB.
const PART: usize = 8 * 1024 * 1024;

/// Blobs below one path of an object store.
#[derive(Debug)]
pub struct ObjectBlobStore {
    objects: Arc<dyn ObjectStore>,
    root: String,
}

impl ObjectBlobStore {
    /// Blobs in `objects`, with `root` before their names, which may be empty. Nothing is asked of
    /// the store yet.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, root: &str) -> Self {
        let root = root.trim_matches('/');
        let root = if root.is_empty() { String::new() } else { format!("{root}/") };
        Self { objects, root }
    }

    fn path(&self, name: &BlobName) -> Path {
        Path::from(format!("{}{name}{SUFFIX}", self.root))
    }

    async fn put(&self, name: BlobName, body: PutPayload) -> Result<Created, BlobError> {
        match self.objects.put_opts(&self.path(&name), body, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::New),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Exists),
            Err(error) => Err(failed(&name, &error)),
        }
    }

    async fn upload_all(
        &self,
        name: BlobName,
        mut body: BoxStream<'static, Result<Bytes, BlobError>>,
    ) -> Result<u64, BlobError> {
        let mut size = 0;
        let mut part = Part::default();
        let mut upload: Option<Box<dyn MultipartUpload>> = None;
        while let Some(piece) = body.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    abandon(upload).await;
                    return Err(error);
                }
            };
            size += piece.len() as u64;
            part.push(piece);
            if part.size < PART {
                continue;
            }
            let open = match upload.take() {
                Some(open) => open,
                None => self
                    .objects
                    .put_multipart(&self.path(&name))
                    .await
                    .map_err(|error| failed(&name, &error))?,
            };
            upload = Some(put_part(open, &name, std::mem::take(&mut part)).await?);
        }
        let Some(mut upload) = upload else {
            return match self.put(name.clone(), part.payload()).await? {
                Created::New => Ok(size),
                Created::Exists => {
                    let why = "there is a blob of that name, and names are never reused".to_owned();
                    Err(BlobError::Storage { name, why })
                }
            };
        };
        if part.size > 0 {
            upload = put_part(upload, &name, part).await?;
        }
        match upload.complete().await {
            Ok(_) => Ok(size),
            Err(error) => {
                abandon(Some(upload)).await;
                Err(failed(&name, &error))
            }
        }
    }

    async fn read(&self, name: BlobName, range: Option<Range<u64>>) -> Result<Bytes, BlobError> {
        let path = self.path(&name);
        let options = GetOptions {
            range: range.clone().filter(|range| !range.is_empty()).map(GetRange::Bounded),
            // An empty range asks only whether there is such a blob.
            head: range.as_ref().is_some_and(Range::is_empty),
            ..GetOptions::default()
        };
        let is_head = options.head;
        let got = match self.objects.get_opts(&path, options).await {
            Ok(_) if is_head => return Ok(Bytes::new()),
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        let error = match (got, range) {
            (Ok(bytes), _) => return Ok(bytes),
            (Err(error @ Error::NotFound { .. }), _) | (Err(error), None) => error,
            // Stores do not agree on how they say that a range starts past the end.
            (Err(error), Some(range)) => match self.objects.head(&path).await {
                Ok(about) if range.start >= about.size => return Ok(Bytes::new()),
                _ => error,
            },
        };
        Err(failed(&name, &error))
    }

    async fn names(&self, prefix: String) -> Result<Vec<(BlobName, u64)>, BlobError> {
        // Objects are listed by whole folders.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = Path::from(format!("{}{folder}", self.root));
        let name = |path: &Path| {
            let name = path.as_ref().strip_prefix(&self.root)?.strip_suffix(SUFFIX)?;
            BlobName::new(name).filter(|name| name.as_str().starts_with(&prefix))
        };
        let listed = self.objects.list(Some(&folder));
        let found = listed.try_filter_map(|about| {
            std::future::ready(Ok(name(&about.location).map(|name| (name, about.size))))
        });
        let found: Result<Vec<_>, _> = found.try_collect().await;
        // No name stands for a whole listing; the prefix says best what was looked for.
        let mut found = found.map_err(|error| failed(&BlobName(prefix.as_str().into()), &error))?;
        found.sort_unstable();
        Ok(found)
    }

    async fn remove(&self, names: Vec<BlobName>) -> Result<(), BlobError> {
        let paths: Vec<_> = names.iter().map(|name| Ok(self.path(name))).collect();
        let mut removed = self.objects.delete_stream(stream::iter(paths).boxed());
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => {
                    let first = names.first().cloned();
                    return first.map_or(Ok(()), |name| Err(failed(&name, &error)));
                }
            }
        }
        Ok(())
    }
}

impl BlobStore for ObjectBlobStore {
    fn create(
        &self,
        name: BlobName,
        body: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<Created, BlobError>> {
        Box::pin(self.put(name, body.into_iter().collect()))
    }

    fn upload(
        &self,
        name: BlobName,
        body: BoxStream<'static, Result<Bytes, BlobError>>,
    ) -> BoxFuture<'_, Result<u64, BlobError>> {
        Box::pin(self.upload_all(name, body))
    }

    fn get(
        &self,
        name: BlobName,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(self.read(name, range))
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(BlobName, u64)>, BlobError>> {
        Box::pin(self.names(prefix.to_owned()))
    }

    fn delete(&self, names: Vec<BlobName>) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(self.remove(names))
    }
}

/// A part of an upload in the making.
#[derive(Default)]
struct Part {
    pieces: Vec<Bytes>,
    size: usize,
}

impl Part {
    fn push(&mut self, piece: Bytes) {
        self.size += piece.len();
        self.pieces.push(piece);
    }

    fn payload(self) -> PutPayload {
        self.pieces.into_iter().collect()
    }
}

async fn put_part(
    mut upload: Box<dyn MultipartUpload>,
    name: &BlobName,
    part: Part,
) -> Result<Box<dyn MultipartUpload>, BlobError> {
    match upload.put_part(part.payload()).await {
        Ok(()) => Ok(upload),
        Err(error) => {
            abandon(Some(upload)).await;
            Err(failed(name, &error))
        }
    }
}

async fn abandon(upload: Option<Box<dyn MultipartUpload>>) {
    if let Some(mut upload) = upload
        && let Err(error) = upload.abort().await
    {
        // Stores remove what stays after a while, if they are told to.
        tracing::warn!(%error, "an upload could not be aborted");
    }
}

fn failed(name: &BlobName, error: &Error) -> BlobError {
    match error {
        Error::NotFound { .. } => BlobError::NotFound(name.clone()),
        error => BlobError::Storage { name: name.clone(), why: error.to_string() },
    }
}

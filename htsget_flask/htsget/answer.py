"""From a query to the body of its ticket: which file, in which format and how exactly, planned and rendered."""

from collections.abc import Sequence
from functools import partial
from urllib.parse import quote

from werkzeug.wrappers import Request

from htsget_flask.auth.access import Access
from htsget_flask.auth.decision import Grant
from htsget_flask.auth.signed_urls import block_parts
from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.reference_checks import describe_absence, has_all_references
from htsget_flask.errors import FileFaultError, PermissionDenied, UnsupportedFormat
from htsget_flask.htsget.block_bytes import Tools, find_missing_reference, read_inline
from htsget_flask.htsget.data_blocks import DataBlock, Records, to_path_segment
from htsget_flask.htsget.plan import Span, Terms, plan, windows_of
from htsget_flask.htsget.query import Query
from htsget_flask.htsget.reference_names import resolve
from htsget_flask.htsget.ticket import BlockUrl, Limits, Rendering, TicketKey, render
from htsget_flask.ranges import ByteRange
from htsget_flask.records.cram import can_encode, needs_bases
from htsget_flask.sequences.open_sequence import LibraryBases
from htsget_flask.services import Services
from htsget_flask.storage import SignedUrl
from htsget_flask.web.views import base_url


def make_ticket(
    services: Services,
    request: Request,
    file: OpenFile,
    format_name: str,
    query: Query,
    access: Access,
    granted: Grant,
) -> bytes:
    """The ticket for a query, in a format, as JSON.

    Raises:
        NotFound: for a reference that the file does not have.
        PermissionDenied: when the grant is limited to regions, and records cannot be separated.
        UnsupportedFormat: when records cannot be decoded for lack of a reference.
        FileFaultError: when the file or its index is damaged.
    """
    source, options = file.source, services.config.htsget
    if query.needs_header:
        query = resolve(query, file)
        if query.regions is not None:
            granted = access.require(source.format.endpoint, source.id, query.regions)
    selection = query.selection.restrict(granted.selection) if granted.is_limited else query.selection
    records = Records(None, None, selection, None if format_name == source.format.name else format_name)
    terms = Terms(options.exact, granted, records)
    planned = None
    if not source.format.is_bgzf:
        try:
            planned, terms = plan_decodable(query, file, terms, services.bases)
        except PermissionDenied as error:
            access.record_denial(source.format.endpoint, source.id, query.regions, error.message)
            raise
    return _render(services, request, file, query, terms, access, planned)


def plan_decodable(query: Query, file: OpenFile, terms: Terms, bases: LibraryBases) -> tuple[Sequence[Span], Terms]:
    """The spans of a CRAM file, and the terms under which all references are available that they need.

    Raises:
        NotFound: for a reference that the file does not have.
        PermissionDenied, UnsupportedFormat: when a reference is not available without which there is no answer.
    """
    records = terms.records
    if records.format_name is None and not can_encode(file.header, records.selection):
        raise UnsupportedFormat(f"{file.source.id!r} has CRAM 2, which has no reads without bases; request format=BAM")
    as_cram = terms._replace(records=records._replace(format_name=None))
    may_stay_cram = records.format_name is not None and query.format is None
    try:
        # Whatever part is requested, the same format: a client may request the header first.
        needs_all = may_stay_cram and needs_bases(records.selection)
        if needs_all and not has_all_references(file, bases.has, bases.generation):
            return plan_decodable(query, file, as_cram, bases)
        spans = plan(query, file, terms)
    except FileFaultError:
        # The whole file, as it is, is served without an index.
        if not may_stay_cram:
            raise
        return plan_decodable(query, file, as_cram, bases)
    reference = find_missing_reference(file, spans, bases)
    if reference is None:
        return spans, terms
    if terms.grant.is_limited:
        raise PermissionDenied(
            "this token opens a part of the records only, and they cannot be separated in this CRAM file: "
            f"{describe_absence(reference)}"
        )
    if not records.is_cut_only:
        raise UnsupportedFormat(
            f"the CRAM file of {file.source.id!r} cannot be decoded: {describe_absence(reference)}; request "
            "format=CRAM, without fields and tags"
        )
    return plan_decodable(query, file, terms._replace(exact=True), bases)


def _render(
    services: Services,
    request: Request,
    file: OpenFile,
    query: Query,
    terms: Terms,
    access: Access,
    planned: Sequence[Span] | None,
) -> bytes:
    source, options = file.source, services.config.htsget
    base = base_url(services.config, request)
    path = f"/{source.format.endpoint}/{source.format.name}/{quote(source.id)}"
    never_inline = options.never_inline if source.never_inline is None else source.never_inline
    inline_limit = 0 if never_inline or not query.may_inline else options.inline_limit
    signed, key = None, None
    if not terms.grant.is_limited:
        # Reading an object reports the id of its version: signing then makes no request for it.
        file.header  # noqa: B018
        signed = source.storage.signed_url(source.key, file.stat)
        if (windows := _windows(query, file, terms)) is not None:
            # Only where clients choose the URL by their Host.
            chosen = base if services.config.public_url is None else None
            key = TicketKey(windows, inline_limit, chosen, path, signed and signed.url, access.expires)
    rendering = Rendering(
        Limits(inline_limit, options.block_size, is_signed=signed is not None),
        partial(_block_url, signed, base, path, access, file),
        partial(read_inline, file, tools=Tools(services.bases, services.decoder)),
    )
    make = partial(plan, query, file, terms) if planned is None else lambda: planned
    return render(file, terms.records.format_name, make, rendering, key)


def _windows(query: Query, file: OpenFile, terms: Terms) -> tuple[str, int, int | None] | None:
    """The windows of the index that the query is for, where all regions in them have the same ticket."""
    regions = query.regions
    if query.header_only or regions is None or len(regions) > 1 or not file.source.format.is_bgzf:
        return None
    return None if terms.are_exact(query, file) else windows_of(regions[0], file)


def _block_url(
    signed: SignedUrl | None, base: str, path: str, access: Access, file: OpenFile, block: DataBlock
) -> BlockUrl:
    if signed is not None and isinstance(block, ByteRange):
        return signed.url, {**signed.headers, "Range": f"bytes={block.start}-{block.end - 1}"}
    source, segment = file.source, to_path_segment(block)
    parts = block_parts(
        storage=source.storage_name,
        key=source.key,
        etag=file.stat.etag,
        block=segment,
        endpoint=source.format.endpoint,
        format_name=source.format.name,
        dataset_id=source.id,
    )
    return f"{base}blocks/{file.stat.etag}/{segment}{path}{access.signature_query(*parts)}", {}

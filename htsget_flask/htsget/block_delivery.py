"""The answers to requests for data blocks."""

import os
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from htsget_flask.datasets.open_file import OpenFile
from htsget_flask.datasets.source import DataFile
from htsget_flask.errors import NotFound
from htsget_flask.formats.binning import Chunk
from htsget_flask.formats.table import ANSWER_FORMATS, Format
from htsget_flask.htsget.block_bytes import Tools, is_written, parts_of, read_inline, write_group, write_records
from htsget_flask.htsget.data_blocks import ConvertedPart, DataBlock, FilePart, RecordGroup, Records, least_file_size
from htsget_flask.htsget.record_spans import MAX_GROUP
from htsget_flask.ranges import ByteRange
from htsget_flask.records.region import UNPLACED_ID
from htsget_flask.services import Services
from htsget_flask.storage.descriptor_file import create_temporary_file
from htsget_flask.web.answer import Answer, Environ
from htsget_flask.web.delivery import send_bytes, send_range
from htsget_flask.web.preconditions import failed_precondition

# The URL of a data block determines its bytes: browsers may cache them for as long as a session lasts.
_HEADERS = {"Cache-Control": "private, max-age=3600, immutable", "Vary": "Origin"}


def fits(block: DataBlock, format_: Format) -> bool:
    """Whether files of a format can have a data block."""
    match block:
        case Chunk():
            return format_.is_bgzf
        case ConvertedPart(_, name):
            return _is_made_from(name, format_)
        case RecordGroup():
            return (
                len(block.regions) <= MAX_GROUP and format_.is_bgzf and all(fits(one, format_) for one in block.blocks)
            )
        case Records(region, span, selection, name):
            is_spanned = (region or span) is not None and not isinstance(span, ByteRange)
            # All records of a span, unchanged, are bytes of the file.
            return (
                not (region is None and block.is_cut_only)
                and (name is None or _is_made_from(name, format_))
                and (selection.is_everything or format_.endpoint == "reads")
                and (is_spanned if format_.is_bgzf else isinstance(span, ByteRange))
            )
    return True


def _has_reference(file: OpenFile, block: Records) -> bool:
    """Whether the file has the reference of a block's region; the reads without one are in containers only."""
    if block.region is None:
        return True
    if block.region.reference_id == UNPLACED_ID:
        return not file.source.format.is_bgzf
    return file.references.with_id(block.region.reference_id) is not None


def _is_made_from(name: str, format_: Format) -> bool:
    return name != format_.name and format_.name in ANSWER_FORMATS.get(name, ())


def send_block(services: Services, environ: Environ, file: DataFile, block: DataBlock) -> Answer:
    """Exactly the bytes of a data block, in a conditional and ranged answer.

    Raises:
        NotFound: when the file is too short for the data block, or no ticket has one of its length.
        FileFaultError: when the file is damaged; VersionError when it was replaced.
        ServiceUnavailable: when too many data blocks are decoded.
    """
    etag = file.stat.etag
    if least_file_size(block) > file.stat.size:
        raise NotFound("there is no such data block")
    if isinstance(block, ByteRange):
        content = file.source.open(file.source.key, etag=etag)
        return send_range(environ, content, block, etag=etag, headers=_HEADERS)
    if not isinstance(block, FilePart):
        etag = f"{etag}-{services.codecs}"
        if failed_precondition(environ, etag=etag, last_modified=None):
            # The answer has no bytes of the block.
            return send_bytes(environ, b"", etag=etag, headers=_HEADERS)
    tools = Tools(services.bases, services.decoder)
    with OpenFile(file, services.cache, services.sidecars) as opened:
        blocks = block.blocks if isinstance(block, RecordGroup) else [block] if isinstance(block, Records) else []
        if not all(_has_reference(opened, one) for one in blocks):
            raise NotFound("there is no such data block")
        match block:
            case FilePart() | ConvertedPart():
                return send_bytes(environ, read_inline(opened, block, tools), etag=etag, headers=_HEADERS)
            case RecordGroup():
                return _send_written(environ, partial(write_group, opened, block, tools), etag)
            case Records() if is_written(opened, block):
                return _send_written(environ, partial(write_records, opened, block, tools), etag)
            case _:
                before, middle, after = parts_of(opened, block)
                content = opened.detach_file()
                return send_range(environ, content, middle, etag, _HEADERS, (before, after))


def _send_written(environ: Environ, write: Callable[[BinaryIO], None], etag: str) -> Answer:
    target = create_temporary_file()
    try:
        write(target)
        size = os.fstat(target.fileno()).st_size
    except BaseException:
        target.close()
        raise
    return send_range(environ, target, ByteRange(0, size), etag, _HEADERS)

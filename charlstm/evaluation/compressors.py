"""What general compressors make of a text when they have seen the training text: xz and zstd, in bits."""

import lzma

import zstandard

LEVEL = {"xz": 6, "zstd": 19}  # beyond them, more time finds no shorter form: the windows are as large as the texts


def xz_bits(train: bytes, text: bytes) -> int:
    """Bits by which the LZMA2 stream of xz grows when `text` follows the training text."""
    window = max(4096, len(train) + len(text))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": LEVEL["xz"], "dict_size": window}]
    before, after = (len(lzma.compress(one, lzma.FORMAT_RAW, filters=filters)) for one in (train, train + text))
    return 8 * (after - before)


def zstd_bits(train: bytes, text: bytes) -> int:
    """Bits of `text` in zstd's format (RFC 8878), with the training text as a dictionary of raw content."""
    num_bytes = len(train) + len(text)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL["zstd"], source_size=num_bytes, window_log=max(zstandard.WINDOWLOG_MIN, num_bytes.bit_length())
    )
    seen = zstandard.ZstdCompressionDict(train, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return 8 * len(zstandard.ZstdCompressor(compression_params=parameters, dict_data=seen).compress(text))

"""Operations that move pages: each abstract half (how many pages of which block) beside its concrete half (which page).

``blocks`` of an operation are the pageblocks of its zone.  A page's block may be a term; then every block's cell is
updated under the condition that it is the one.
"""

from kernelmodel.page_ops.counted import PageList, has_isolate_pageblock, type_of_block
from kernelmodel.page_ops.freeing import (
    free_one,
    free_to_buddy,
    list_add,
    list_del_bulk,
    list_empty,
    start_freeing,
    store_migratetype,
)
from kernelmodel.page_ops.taking import list_del_first, refill, rmqueue_buddy, rmqueue_page

__all__ = [
    "PageList", "free_one", "free_to_buddy", "has_isolate_pageblock", "list_add", "list_del_bulk", "list_del_first",
    "list_empty", "refill", "rmqueue_buddy", "rmqueue_page", "start_freeing", "store_migratetype", "type_of_block",
]  # fmt: skip

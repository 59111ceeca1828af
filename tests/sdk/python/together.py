"""The three kinds at once, through the SDK's asyncio client."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import alchemy
import image
import text
from horde_sdk.ai_horde_api.ai_horde_clients import AIHordeAPIAsyncSimpleClient


async def ask() -> tuple[Any, Any, Any]:
    async with aiohttp.ClientSession() as session:
        client = AIHordeAPIAsyncSimpleClient(aiohttp_session=session)
        painted, written, answered = await asyncio.gather(
            client.image_generate_request(image.request()),
            client.text_generate_request(text.request(n=1)),
            client.alchemy_request(alchemy.request("caption")),
        )
        return painted[0], written[0], answered[0]


def asyncio_client() -> None:
    """asyncio: the three kinds are asked at once"""
    work = (image.paint_next, text.write_next, alchemy.caption_next)
    with ThreadPoolExecutor(len(work)) as pool:
        workers = [pool.submit(next_job) for next_job in work]
        painted, written, answered = asyncio.run(ask())
        for worker in workers:
            worker.result()
    assert len(painted.generations) == 1 and len(written.generations) == 1
    assert answered.state == "done"


TRIPS = [asyncio_client]

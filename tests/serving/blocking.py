"""An async client that tests of the sync one can use."""

import asyncio


class Blocking:
    """An async client under the sync one's clothes, so that one test serves both."""

    def __init__(self, client):
        self.client, self.loop = client, asyncio.new_event_loop()

    def __getattr__(self, name):
        async def call(*arguments, **options):
            return await getattr(self.client, name)(*arguments, **options)

        return lambda *arguments, **options: self.loop.run_until_complete(call(*arguments, **options))

    def close(self):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()

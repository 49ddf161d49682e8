"""Ctrl-C, and whatever else a signal handler raises, during a blocking call: real signals in a process of its own."""

import signal
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

PRELUDE = """
import asyncio, os, random, signal, sys, threading, time
from syncify import Syncify, _loop
if {short_steps}:
    _loop.STEP = 1e-3  # so that a wait has many of them
if {uvloop}:
    import uvloop
    syncer = Syncify("s", loop_factory=uvloop.new_event_loop)
else:
    syncer = Syncify("s")

@syncer
async def job(how="raise", cleanup=0.01):
    try:
        print("waits", flush=True)
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        if how == "stuck":
            await asyncio.Event().wait()
        await asyncio.sleep(cleanup)
        print("cleaned", flush=True)
        if how == "swallow":
            return "value"
        if how == "fail":
            raise ValueError("in the cleanup")
        raise

@syncer
async def works():
    await asyncio.sleep(0)
    return "works"
"""


@pytest.fixture(params=["asyncio", "uvloop", "short steps"])
def program(request, script):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    prelude = PRELUDE.format(short_steps="steps" in request.param, uvloop=request.param == "uvloop")
    return lambda code: script(prelude + textwrap.dedent(code))


def test_ctrl_c_cancels_waits_for_the_cleanup_and_raises(program):
    running = program("""
        try:
            job()
        except KeyboardInterrupt:
            print("raised")
        print(works())
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\ncleaned\nraised\nworks\n", "")


def test_ctrl_c_is_not_lost_on_a_coroutine_that_swallows_the_cancel(program):
    running = program("""
        try:
            print(job("swallow"))
        except KeyboardInterrupt:
            print("raised")
        print(works())
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\ncleaned\nraised\nworks\n", "")


def test_an_error_in_the_cleanup_is_the_context_of_the_interrupt(program):
    running = program("""
        try:
            job("fail")
        except KeyboardInterrupt as error:
            print(repr(error.__context__))
        try:
            raise KeyError("the caller's")
        except KeyError:
            try:
                job("fail")
            except KeyboardInterrupt as error:
                print(repr(error.__context__))
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert [running.line() for _ in range(4)] == ["cancelled", "cleaned", "ValueError('in the cleanup')", "waits"]
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, 'cancelled\ncleaned\nKeyError("the caller\'s")\n', "")


def test_a_second_ctrl_c_leaves_at_once(program):
    running = program("""
        try:
            job("stuck")
        except KeyboardInterrupt:
            print("raised", flush=True)
        print(works())
        os._exit(0)
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.line() == "cancelled"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "raised\nworks\n", "")


def test_ctrl_c_during_run(program):
    running = program("""
        try:
            syncer.run(job.aio())
        except KeyboardInterrupt:
            print("raised")
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\ncleaned\nraised\n", "")


def test_uncaught_it_ends_the_program_as_ctrl_c_does(program):
    running = program("job()")
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    code, out, err = running.end()
    assert code == -signal.SIGINT
    assert out == "cancelled\ncleaned\n"
    assert err.strip().endswith("KeyboardInterrupt")


def test_a_signal_that_does_not_wake_the_thread(program):
    """As on Windows, where none does; and anywhere, when it comes just before the thread falls asleep."""
    running = program("""
        works()
        # The system now gives it to the thread of the loop, and Python leaves its handler to the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            job()
        except KeyboardInterrupt:
            print("raised")
        print(works())
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\ncleaned\nraised\nworks\n", "")


def test_whatever_a_signal_handler_raises(program):
    running = program("""
        class Alarm(BaseException):
            pass

        def handler(*_):
            raise Alarm

        signal.signal(signal.SIGUSR1, handler)
        try:
            job("swallow")
        except Alarm:
            print("raised")
        print(works())
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGUSR1)
    assert running.end() == (0, "cancelled\ncleaned\nraised\nworks\n", "")


def test_a_handler_that_does_not_raise_disturbs_nothing(program):
    running = program("""
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        signal.signal(signal.SIGUSR2, lambda *_: event.set())
        event = threading.Event()

        @syncer
        async def waits():
            print("waits", flush=True)
            await asyncio.to_thread(event.wait)
            return "value"

        print(waits())
    """)
    assert running.line() == "waits"
    for _ in range(3):
        running.process.send_signal(signal.SIGUSR1)
        assert running.line() == "handled"
    running.process.send_signal(signal.SIGUSR2)
    assert running.end() == (0, "value\n", "")


def test_ctrl_c_in_asyncio_run_cleans_up_too(program):
    running = program("""
        async def main():
            async def tick():
                while True:  # the loop of asyncio.run sleeps through a signal that comes just before it falls asleep
                    await asyncio.sleep(0.01)

            ticking = asyncio.create_task(tick())
            await job.aio()

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("raised")
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\ncleaned\nraised\n", "")


STRUCK = """
    import collections, warnings

    class Alarm(BaseException):
        pass

    def handler(_, frame):
        # Strikes the functions called `target`, and whatever they call, for as long as there are strikes left.
        global left
        if left:
            left -= 1
            while frame is not None:
                if frame.f_code.co_name == "target":
                    raise Alarm
                frame = frame.f_back

    def strike(target, times, within):
        global left
        try:
            left = times
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, within), 3e-5)
            target()
        except Alarm:
            pass
        while left:
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)

    left = 0
    signal.signal(signal.SIGALRM, handler)
    # What is raised in a finalizer Python has to swallow; a strike on the test itself may leave its coroutine alone.
    sys.unraisablehook = collections.deque(maxlen=0).append
    warnings.simplefilter("ignore")
    seed = random.randrange(1 << 32)
    random.seed(seed)
"""


@pytest.fixture
def struck(program):
    return lambda code: program(textwrap.dedent(STRUCK) + textwrap.dedent(code))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_at_any_microsecond(struck, times):
    """Nothing hangs, nothing is lost, nothing is left behind, wherever in our own code the handler strikes."""
    running = struck(f"""
        begun = ended = 0

        @syncer
        async def counts(suspends):
            global begun, ended
            begun += 1
            try:
                for _ in range(suspends):
                    await asyncio.sleep(0)
            finally:
                ended += 1

        def spin():
            while left:
                pass

        def target():
            try:
                while left:
                    counts(0)
                    counts(1)
                    syncer.run(counts.aio(1))
            finally:
                spin()  # a loop right here makes Python 3.13.0 forget that the exception has been handled

        works()
        for _ in range(1500):
            strike(target, {times}, 3e-4)
            assert works() == "works"
        for _ in range(3):
            works()
        assert begun == ended, (begun, ended, seed)
        assert repr(syncer) == "<Syncify 's', 0 calls in flight>", (syncer, seed)
        print("done")
    """)
    assert running.end() == (0, "done\n", "")


def test_a_wake_up_is_not_lost_on_other_threads(struck):
    """The main thread is struck again and again while others make calls that rely on its wake-ups."""
    running = struck("""
        stop = False
        counts = [0] * 4

        def calls(i):
            while not stop:
                works()
                counts[i] += 1

        def target():
            while left:
                works()

        threads = [threading.Thread(target=calls, args=[i]) for i in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(500):
            strike(target, 1, 1e-3)
        stop = True
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), seed
        assert min(counts) > 0
        print("done")
    """)
    assert running.end() == (0, "done\n", "")


def test_the_very_first_call_may_be_interrupted(struck):
    """While the loop and its thread are being started."""
    running = struck("""
        async def one():
            return 1

        def target():
            while left:
                f()

        for _ in range(300):
            f = Syncify("fresh")(one)
            strike(target, 1, 4e-4)
            assert f() == 1
        # One thread for each syncer; those that were started in vain have to end.
        while sum(thread.name == "fresh" for thread in threading.enumerate()) > 300:
            time.sleep(0.001)
        print("done", flush=True)
        os._exit(0)
    """)
    assert running.end() == (0, "done\n", "")


def test_a_signal_handler_that_raises_while_async_code_makes_a_call(program):
    """It is raised where the call is awaited, once the coroutine has cleaned up, and the task is not left suspended."""
    running = program("""
        class Alarm(BaseException):
            pass

        def handler(*_):
            raise Alarm

        async def main():
            post = syncer._background.post

            def post_and_strike(callback):
                post(callback)
                del syncer._background.post
                signal.raise_signal(signal.SIGUSR1)

            syncer._background.post = post_and_strike
            try:
                await job.aio()
            except Alarm:
                print("raised")
            print(await works.aio())

        works()
        signal.signal(signal.SIGUSR1, handler)
        asyncio.run(main())
    """)
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["raised", "works"]
    assert out.splitlines()[:-2] in ([], ["waits", "cancelled", "cleaned"])


def test_a_second_signal_that_does_not_wake_the_thread(program):
    running = program("""
        works()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # so the thread of the loop gets it
        try:
            job("stuck")
        except KeyboardInterrupt:
            print("raised", flush=True)
        os._exit(0)
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.line() == "cancelled"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "raised\n", "")


def test_what_an_interrupt_has_as_its_context(program):
    """The error of the cleanup, with the frames of the user only; the cancellation is none."""
    running = program("""
        import traceback
        try:
            job()
        except KeyboardInterrupt as error:
            print(error.__context__)
        try:
            job("fail")
        except KeyboardInterrupt as error:
            print([frame.name for frame in traceback.extract_tb(error.__context__.__traceback__)])
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert [running.line() for _ in range(4)] == ["cancelled", "cleaned", "None", "waits"]
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\ncleaned\n['job']\n", "")


def test_at_any_microsecond_of_the_wait_for_a_submitted_call(struck):
    """Nor does the thread of the loop wait for a lock that the interrupt has left held."""
    running = struck("""
        begun = ended = 0

        @syncer
        async def counts(suspends):
            global begun, ended
            begun += 1
            try:
                for _ in range(suspends):
                    await asyncio.sleep(0)
            finally:
                ended += 1

        def spin():
            while left:
                time.sleep(0)

        def target():
            try:
                while left:
                    for future in counts.submit(0), counts.submit(5):
                        future.result()
                        assert future.done() and not future.cancel()
            finally:
                spin()  # a loop right here makes Python 3.13.0 forget that the exception has been handled

        works()
        for i in range(1500):
            strike(target, 1 + i % 3, 3e-4)
            assert works() == "works"
            assert counts.submit(1).result(20) is None
        while repr(syncer) != "<Syncify 's', 0 calls in flight>":
            works()
        assert begun == ended, (begun, ended, seed)
        print("done")
    """)
    assert running.end() == (0, "done\n", "")


def test_a_timeout_error_of_a_signal_handler_is_not_taken_for_one_of_the_future(program):
    running = program("""
        class Alarm(TimeoutError):
            pass

        def handler(*_):
            raise Alarm

        signal.signal(signal.SIGALRM, handler)
        future = job.submit()
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.1)
        try:
            future.result()
        except Alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            print("raised", flush=True)
    """)
    assert running.end() == (0, "waits\nraised\ncancelled\ncleaned\n", "")


def test_a_runtime_error_of_a_signal_handler_while_the_loop_starts_is_raised(script):
    running = script("""
        import asyncio, os, signal, threading
        from syncify import Syncify

        class Alarm(RuntimeError):
            pass

        def handler(*_):
            raise Alarm

        def factory():
            while not raised.is_set():  # a signal that comes just before a thread falls asleep does not wake it
                os.kill(os.getpid(), signal.SIGALRM)
                raised.wait(0.05)
            return asyncio.new_event_loop()

        raised = threading.Event()
        syncer = Syncify("late", loop_factory=factory)
        signal.signal(signal.SIGALRM, handler)
        try:
            try:
                syncer.run(asyncio.sleep(0))
            finally:
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                raised.set()
        except Alarm:
            print("raised")
        print(syncer.run(asyncio.sleep(0, "works")))
    """)
    assert running.end() == (0, "raised\nworks\n", "")


def test_a_wait_never_asks_the_main_thread_in_itself_whether_it_is_alive(program):
    """`is_alive`, interrupted in the thread itself, makes that count as ended, in some versions of Python."""
    running = program("""
        def profile(frame, event, argument):
            if event == "call" and frame.f_code is threading.Thread.is_alive.__code__:
                print("asked")

        async def asks():
            await asyncio.sleep(0.5)

        sys.setprofile(profile)
        syncer.run(asks())
        sys.setprofile(None)
        print(works())
    """)
    assert running.end() == (0, "works\n", "")

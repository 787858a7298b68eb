import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/** What the programs share: telling stories, waiting, asking for a restart. */
final class Stories {
    static final long PATIENCE_SECONDS = 60;
    static final URI URL = URI.create(System.getenv("AMQP_URL"));
    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    interface Story {
        void run() throws Exception;
    }

    private Stories() {
    }

    /** A name that no other run uses. */
    static String named(String suffix) {
        return System.getenv("PREFIX") + "-" + suffix;
    }

    static void equal(Object actual, Object expected, String what) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(what + ": " + actual + " instead of " + expected);
        }
    }

    static <T> T next(BlockingQueue<T> queue, String what) throws InterruptedException {
        T item = queue.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
        if (item == null) {
            throw new AssertionError(what + ": not within " + PATIENCE_SECONDS + " s");
        }
        return item;
    }

    static void eventually(Callable<Boolean> check, String what) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS * 2);
        while (!check.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError(what + ": never");
            }
            Thread.sleep(20);
        }
    }

    static void restartBroker() throws Exception {
        System.out.println("restart");
        ANSWERS.readLine();
    }

    static void tell(String[] names, Map<String, Story> stories) {
        for (String name : names) {
            try {
                stories.get(name).run();
                System.out.println("ok " + name);
            } catch (Throwable error) {
                System.out.println("failed " + name + ": " + error);
                error.printStackTrace(System.out);
            }
        }
        System.exit(0);
    }
}

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command-line tools one after the other in one process. A line of input is the class, the text for the
 * tool's standard input and the arguments, with U+001F between them and U+001E for line ends; the answer is what the
 * tool printed, and a line of U+0004 with its exit status.
 */
public class Tools {
    /** Ends a tool that ends itself. */
    static class Exited extends Error {
        Exited() {
            super("", null, false, false);
        }
    }

    /** What the tool ended itself with: the first time counts, as some catch what ends them. */
    static Integer ended;

    public static void main(String[] arguments) throws Exception {
        PrintStream output = System.out;
        List<Runnable> hooks = new ArrayList<>();
        Exit.setExitProcedure((status, message) -> exit(status));
        Exit.setHaltProcedure((status, message) -> exit(status));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] fields = line.replace('\u001e', '\n').split("\u001f", -1);
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            PrintStream print = new PrintStream(printed, true, StandardCharsets.UTF_8);
            System.setOut(print);
            System.setErr(print);
            System.setIn(new ByteArrayInputStream(fields[1].getBytes(StandardCharsets.UTF_8)));
            int status = run(fields[0], Arrays.copyOfRange(fields, 2, fields.length));
            hooks.forEach(Runnable::run);
            hooks.clear();
            print.flush();
            output.write(printed.toByteArray());
            output.print("\n\u0004" + status + "\n");
            output.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    static void exit(int status) {
        ended = ended == null ? status : ended;
        throw new Exited();
    }

    static int run(String name, String[] arguments) throws Exception {
        // Tools keep things in static fields: each run has its own classes of theirs.
        try (URLClassLoader loader = new Fresh()) {
            Thread.currentThread().setContextClassLoader(loader);
            ended = null;
            loader.loadClass(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return ended == null ? 0 : ended;
        } catch (InvocationTargetException wrapped) {
            if (ended != null) {
                return ended;
            }
            wrapped.getCause().printStackTrace();
            return 1;
        } finally {
            Thread.currentThread().setContextClassLoader(Tools.class.getClassLoader());
        }
    }

    /** Loads the tools' own classes again. */
    static class Fresh extends URLClassLoader {
        Fresh() throws Exception {
            super(jars(), Tools.class.getClassLoader());
        }

        static URL[] jars() throws Exception {
            List<URL> jars = new ArrayList<>();
            for (String path : System.getProperty("java.class.path").split(File.pathSeparator)) {
                String file = new File(path).getName();
                if (file.startsWith("kafka-tools-4") || file.startsWith("kafka_2.13-")) {
                    jars.add(new File(path).toURI().toURL());
                }
            }
            return jars.toArray(new URL[0]);
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            synchronized (getClassLoadingLock(name)) {
                if (name.startsWith("org.apache.kafka.tools.") || name.startsWith("kafka.admin.")) {
                    Class<?> loaded = findLoadedClass(name);
                    try {
                        return loaded != null ? loaded : findClass(name);
                    } catch (ClassNotFoundException elsewhere) {
                        // A class of the tools' API, which is in another jar.
                    }
                }
                return super.loadClass(name, resolve);
            }
        }
    }
}

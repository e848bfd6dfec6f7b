import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * One node of Elasticsearch 8.19 in this JVM, built by hand: the server plus its network module, nothing else
 * (no x-pack, no ingest processors, no data stream API).
 * Arguments: the home folder, then settings as key=value; the system property "module" is the
 * folder with the jars of the network module, which mustn't be on the class path too.
 * Ends when its standard input does: no server outlives the test.
 */
public class RunElasticsearch8 {
    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]);
        Files.createDirectories(home.resolve("config"));
        Files.createDirectories(home.resolve("plugins"));
        networkModule(home.resolve("modules/transport-netty4"), Path.of(System.getProperty("module")));

        Settings.Builder settings = Settings.builder().put("path.home", home.toString()).put("node.name", "e2e");
        for (int i = 1; i < args.length; i++) {
            String[] kv = args[i].split("=", 2);
            settings.put(kv[0], kv[1]);
        }
        LogConfigurator.configureESLogging();
        LogConfigurator.configureWithoutConfig(Settings.EMPTY);
        Environment env = InternalSettingsPreparer.prepareEnvironment(
            settings.build(), Map.of(), home.resolve("config"), () -> "e2e");
        PluginsLoader plugins = PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(env.modulesDir()),
            PluginsLoader.loadPluginsBundles(env.pluginsDir()),
            Map.of(), false);
        Node node = new Node(env, plugins);
        node.start();
        while (System.in.read() != -1) { }
        node.close();
        System.exit(0);
    }

    /**
     * A module folder as the server's own distribution has it: the jars with a descriptor. Without the
     * descriptor's "modulename" it is an unnamed module, which doesn't ask for the module that isn't published.
     */
    private static void networkModule(Path module, Path jars) throws Exception {
        Files.createDirectories(module);
        try (Stream<Path> list = Files.list(jars)) {
            for (Path jar : (Iterable<Path>) list::iterator) {
                Files.copy(jar, module.resolve(jar.getFileName()), StandardCopyOption.REPLACE_EXISTING);
            }
        }
        Files.write(module.resolve("plugin-descriptor.properties"), List.of(
            "name=transport-netty4",
            "description=Netty 4 based transport implementation",
            "version=8.19.14",
            "elasticsearch.version=8.19.14",
            "java.version=17",
            "classname=NetworkAndRoot"));
    }
}

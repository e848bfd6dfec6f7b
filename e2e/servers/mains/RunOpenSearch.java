import java.util.Arrays;
import org.codelibs.opensearch.runner.OpenSearchRunner;

/**
 * One node of OpenSearch 2 or 3 in this JVM.
 * Arguments: the home folder, then settings as key=value. Ends when its standard input does: no server outlives the test.
 */
public class RunOpenSearch {
    public static void main(String[] args) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> Arrays.stream(args).skip(1).forEach(pair -> {
            String[] kv = pair.split("=", 2);
            settings.put(kv[0], kv[1]);
        })).build(OpenSearchRunner.newConfigs().basePath(args[0]).clusterName("e2e").numOfNode(1));
        while (System.in.read() != -1) { }
        runner.close();
        System.exit(0);
    }
}

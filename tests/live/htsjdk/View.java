import htsjdk.samtools.DefaultSAMRecordFactory;
import htsjdk.samtools.HtsgetBAMFileReader;
import htsjdk.samtools.SAMRecord;
import htsjdk.samtools.ValidationStringency;
import htsjdk.samtools.util.CloseableIterator;
import java.net.URI;

/** Prints the reads of an htsget URL as SAM: all of them, or those of a region (1-based, closed). */
public class View {
    public static void main(String[] arguments) throws Exception {
        HtsgetBAMFileReader reader = new HtsgetBAMFileReader(
                new URI(arguments[0]), true, ValidationStringency.SILENT, DefaultSAMRecordFactory.getInstance(), false);
        CloseableIterator<SAMRecord> records = arguments.length == 1
                ? reader.getIterator()
                : reader.query(arguments[1], Integer.parseInt(arguments[2]), Integer.parseInt(arguments[3]), false);
        while (records.hasNext()) {
            System.out.print(records.next().getSAMString());
        }
        records.close();
        reader.close();
    }
}

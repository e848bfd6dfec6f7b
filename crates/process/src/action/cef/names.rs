//! The names of CEF's extensions: what is written in messages, what is meant, of which type it is, and the field of the
//! Elastic Common Schema that it becomes.
//!
//! Always holds: the tables are texts that are read when a processor is made: a map of constants would cost the
//! executable several times as much. Tested below and against Filebeat 7.17.29 and 9.5.0.

use std::collections::HashMap;

/// What the value of an extension is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Long,
    Float,
    Double,
    Ip,
    Mac,
    Time,
}

/// `short=full`, or the one name where there is no other.
const EXTENSIONS: &[(Kind, &str)] = &[
    (
        Kind::Text,
        "\
         act=deviceAction agentDnsDomain agentNtDomain agentTranslatedZoneExternalID agentTranslatedZoneURI \
         agentZoneExternalID agentZoneURI ahost=agentHostName aid=agentId app=applicationProtocol at=agentType \
         atz=agentTimeZone av=agentVersion c6a1Label=deviceCustomIPv6Address1Label \
         c6a2Label=deviceCustomIPv6Address2Label c6a3Label=deviceCustomIPv6Address3Label \
         C6a4Label=deviceCustomIPv6Address4Label cat=deviceEventCategory catdt=categoryDeviceType \
         cfp1Label=deviceCustomFloatingPoint1Label cfp2Label=deviceCustomFloatingPoint2Label \
         cfp3Label=deviceCustomFloatingPoint3Label cfp4Label=deviceCustomFloatingPoint4Label \
         cn1Label=deviceCustomNumber1Label cn2Label=deviceCustomNumber2Label cn3Label=deviceCustomNumber3Label \
         cs1=deviceCustomString1 cs1Label=deviceCustomString1Label cs2=deviceCustomString2 \
         cs2Label=deviceCustomString2Label cs3=deviceCustomString3 cs3Label=deviceCustomString3Label \
         cs4=deviceCustomString4 cs4Label=deviceCustomString4Label cs5=deviceCustomString5 \
         cs5Label=deviceCustomString5Label cs6=deviceCustomString6 cs6Label=deviceCustomString6Label \
         customerExternalID customerURI destinationDnsDomain destinationServiceName \
         destinationTranslatedZoneExternalID destinationTranslatedZoneURI destinationZoneExternalID \
         destinationZoneURI deviceCustomDate1Label deviceCustomDate2Label deviceDnsDomain deviceExternalId \
         deviceFacility deviceInboundInterface deviceNtDomain DeviceOutboundInterface=deviceOutboundInterface \
         DevicePayloadId=devicePayloadId deviceProcessName deviceTranslatedZoneExternalID deviceTranslatedZoneURI \
         deviceZoneExternalID deviceZoneURI dhost=destinationHostName dntdom=destinationNtDomain \
         dpriv=destinationUserPrivileges dproc=destinationProcessName dtz=deviceTimeZone duid=destinationUserId \
         duser=destinationUserName dvchost=deviceHostName externalId fileHash fileId filePath filePermission \
         fileType flexDate1Label flexNumber1Label=deviceFlexNumber1Label flexNumber2Label=deviceFlexNumber2Label \
         flexString1 flexString1Label flexString2 flexString2Label fname=filename msg=message oldFileHash \
         oldFileId oldFileName oldFilePath oldFilePermission oldFileType outcome=eventOutcome \
         proto=transportProtocol rawEvent reason=Reason request=requestUrl requestClientApplication \
         requestContext requestCookies requestMethod shost=sourceHostName sntdom=sourceNtDomain sourceDnsDomain \
         sourceServiceName sourceTranslatedZoneExternalID sourceTranslatedZoneURI sourceZoneExternalID \
         sourceZoneURI spriv=sourceUserPrivileges sproc=sourceProcessName suid=sourceUserId suser=sourceUserName",
    ),
    (
        Kind::Integer,
        "\
         cnt=baseEventCount destinationTranslatedPort deviceDirection dpid=destinationProcessId \
         dpt=destinationPort dvcpid=deviceProcessId fsize=fileSize oldFileSize sourceTranslatedPort \
         spid=sourceProcessId spt=sourcePort type",
    ),
    (
        Kind::Long,
        "\
         cn1=deviceCustomNumber1 cn2=deviceCustomNumber2 cn3=deviceCustomNumber3 eventId \
         flexNumber1=deviceFlexNumber1 flexNumber2=deviceFlexNumber2 in=bytesIn out=bytesOut",
    ),
    (
        Kind::Float,
        "\
         cfp1=deviceCustomFloatingPoint1 cfp2=deviceCustomFloatingPoint2 cfp3=deviceCustomFloatingPoint3 \
         cfp4=deviceCustomFloatingPoint4",
    ),
    (
        Kind::Double,
        "\
         dlat=destinationGeoLatitude dlong=destinationGeoLongitude slat=sourceGeoLatitude \
         slong=sourceGeoLongitude",
    ),
    (
        Kind::Ip,
        "\
         agentTranslatedAddress agt=agentAddress c6a1=deviceCustomIPv6Address1 c6a2=deviceCustomIPv6Address2 \
         c6a3=deviceCustomIPv6Address3 c6a4=deviceCustomIPv6Address4 destinationTranslatedAddress \
         deviceTranslatedAddress dst=destinationAddress dvc=deviceAddress sourceTranslatedAddress \
         src=sourceAddress",
    ),
    (
        Kind::Mac,
        "\
         amac=agentMacAddress dmac=destinationMacAddress dvcmac=deviceMacAddress smac=sourceMacAddress",
    ),
    (
        Kind::Time,
        "\
         art=agentReceiptTime deviceCustomDate1 deviceCustomDate2 end=endTime fileCreateTime fileModificationTime \
         flexDate1 mrt=managerReceiptTime oldFileCreateTime oldFileModificationTime rt=deviceReceiptTime \
         start=startTime",
    ),
];

/// `full=field`.
const FIELDS: &str = "\
     agentAddress=agent.ip agentDnsDomain=agent.name agentHostName=agent.name agentId=agent.id \
     agentMacAddress=agent.mac agentReceiptTime=event.created agentType=agent.type agentVersion=agent.version \
     applicationProtocol=network.application bytesIn=source.bytes bytesOut=destination.bytes \
     customerExternalID=organization.id customerURI=organization.name destinationAddress=destination.ip \
     destinationDnsDomain=destination.domain destinationGeoLatitude=destination.geo.location.lat \
     destinationGeoLongitude=destination.geo.location.lon destinationHostName=destination.domain \
     destinationMacAddress=destination.mac destinationPort=destination.port \
     destinationProcessId=destination.process.pid destinationProcessName=destination.process.name \
     destinationServiceName=destination.service.name destinationTranslatedAddress=destination.nat.ip \
     destinationTranslatedPort=destination.nat.port destinationUserId=destination.user.id \
     destinationUserName=destination.user.name destinationUserPrivileges=destination.user.group.name \
     deviceAction=event.action deviceAddress=observer.ip deviceDirection=network.direction \
     deviceDnsDomain=observer.hostname deviceHostName=observer.hostname deviceMacAddress=observer.mac \
     devicePayloadId=event.id deviceProcessId=process.pid deviceProcessName=process.name \
     deviceReceiptTime=@timestamp deviceTimeZone=event.timezone endTime=event.end eventId=event.id \
     eventOutcome=event.outcome fileCreateTime=file.created fileId=file.inode fileModificationTime=file.mtime \
     filename=file.name filePath=file.path filePermission=file.group fileSize=file.size fileType=file.type \
     message=message requestClientApplication=user_agent.original requestContext=http.request.referrer \
     requestMethod=http.request.method requestUrl=url.original sourceAddress=source.ip \
     sourceDnsDomain=source.domain sourceGeoLatitude=source.geo.location.lat \
     sourceGeoLongitude=source.geo.location.lon sourceHostName=source.domain sourceMacAddress=source.mac \
     sourcePort=source.port sourceProcessId=source.process.pid sourceProcessName=source.process.name \
     sourceServiceName=source.service.name sourceTranslatedAddress=source.nat.ip \
     sourceTranslatedPort=source.nat.port sourceUserId=source.user.id sourceUserName=source.user.name \
     sourceUserPrivileges=source.user.group.name startTime=event.start transportProtocol=network.transport \
     type=event.kind";

/// What is known of extensions.
#[derive(Debug)]
pub(super) struct Names {
    /// By their names in lower case.
    extensions: HashMap<String, (&'static str, Kind)>,
    fields: HashMap<&'static str, &'static str>,
}

impl Names {
    /// `modern`: as Filebeat 9 has them, where bytes are counted in 64 bits.
    pub(super) fn new(modern: bool) -> Names {
        let mut extensions = HashMap::new();
        for (kind, names) in EXTENSIONS {
            for word in names.split(' ') {
                let (short, full) = word.split_once('=').unwrap_or((word, word));
                let kind = match short {
                    "in" | "out" if !modern => Kind::Integer,
                    _ => *kind,
                };
                extensions.insert(short.to_ascii_lowercase(), (full, kind));
            }
        }
        Names { extensions, fields: FIELDS.split(' ').filter_map(|pair| pair.split_once('=')).collect() }
    }

    /// The full name and the type of an extension that is written so, in whatever case.
    pub(super) fn extension(&self, written: &str) -> Option<(&'static str, Kind)> {
        self.extensions.get(&written.to_lowercase()).copied()
    }

    /// The field that an extension becomes, by its full name.
    pub(super) fn field(&self, full: &str) -> Option<&'static str> {
        self.fields.get(full).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read() {
        let words = EXTENSIONS.iter().flat_map(|(_, names)| names.split(' ')).count();
        let names = Names::new(false);
        assert_eq!((words, names.extensions.len()), (166, 166));
        assert_eq!((FIELDS.split(' ').count(), names.fields.len()), (73, 73));
        for (written, want) in [
            ("src", Some(("sourceAddress", Kind::Ip))),
            ("SRC", Some(("sourceAddress", Kind::Ip))),
            ("c6a4label", Some(("deviceCustomIPv6Address4Label", Kind::Text))),
            ("eventid", Some(("eventId", Kind::Long))),
            ("in", Some(("bytesIn", Kind::Integer))),
            ("sourceAddress", None),
        ] {
            assert_eq!(names.extension(written), want, "{written}");
        }
        assert_eq!(Names::new(true).extension("out"), Some(("bytesOut", Kind::Long)));
        assert_eq!((names.field("fileId"), names.field("src")), (Some("file.inode"), None));
    }
}
